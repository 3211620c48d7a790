//! The command line of `watch`, laid over the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::config::{self, Config, Format, Log, Mode, Names, PinName, Snapshots, unspanned};
use super::mqtt;
use super::releases::Settings;
use crate::decide::Smoothing;
use crate::exit::Usage;
use crate::load::ModelArgs;

/// Options of `watch`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  \
    kinglet watch mine.onnx --camera /dev/video0 --led 17=ants\n  \
    kinglet watch --camera rpicam --json --window 5 --enter 0.6 --leave 0.4\n  \
    kinglet watch --camera video.mp4 --every-frame --all --json\n  \
    kinglet watch --camera test --listen 127.0.0.1:8080\n  \
    kinglet watch --config kinglet.toml\n\n\
    What a configuration can say: kinglet watch --example > kinglet.toml")]
pub(crate) struct Args {
    /// The model; the same as --model.
    #[arg(value_name = "MODEL", conflicts_with = "model")]
    pub(super) file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) model: ModelArgs,
    /// A second model that sees the same and never acts: agreement and latency are counted.
    #[arg(long, value_name = "FILE")]
    pub(super) shadow: Option<PathBuf>,
    /// A configuration; options on the command line come before it.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print a configuration with everything in it.
    #[arg(long)]
    pub(super) example: bool,
    /// /dev/video0, rpicam, http://…, rtsp://…, a video file, a folder or list of pictures, - or test.
    #[arg(long, short, value_name = "SOURCE", help_heading = "Camera")]
    pub(super) camera: Option<String>,
    /// Size of frames; the nearest that there is.
    #[arg(long, value_name = "WxH", value_parser = size, help_heading = "Camera")]
    pub(super) size: Option<[u32; 2]>,
    /// Frames a second.
    #[arg(long, value_name = "N", help_heading = "Camera")]
    pub(super) fps: Option<f64>,
    /// Format of frames.
    #[arg(long, help_heading = "Camera")]
    pub(super) format: Option<Format>,
    /// Begin again at the end of a video or folder.
    #[arg(long, help_heading = "Camera")]
    pub(super) repeat: bool,
    /// Leave out no frame of a recording, however long it takes.
    #[arg(long, help_heading = "Camera")]
    pub(super) every_frame: bool,
    /// Classes in each line.
    #[arg(long, value_name = "N", help_heading = "Decision")]
    pub(super) top: Option<usize>,
    /// How pictures are smoothed over.
    #[arg(long, help_heading = "Decision")]
    pub(super) smoothing: Option<Smoothing>,
    /// Pictures that are smoothed over.
    #[arg(long, value_name = "N", help_heading = "Decision")]
    pub(super) window: Option<usize>,
    /// A class is decided from this score on, 0 to 1.
    #[arg(long, value_name = "SCORE", help_heading = "Decision")]
    pub(super) enter: Option<f32>,
    /// It is decided no longer below this score.
    #[arg(long, value_name = "SCORE", help_heading = "Decision")]
    pub(super) leave: Option<f32>,
    /// A decision lasts at least so long.
    #[arg(long, value_name = "MS", help_heading = "Decision")]
    pub(super) hold: Option<u64>,
    /// Below this best score a picture is unknown [default: the model's own].
    #[arg(long, value_name = "SCORE", help_heading = "Decision")]
    pub(super) unknown_below: Option<f32>,
    /// Inferences a second at most.
    #[arg(long, value_name = "N", help_heading = "Rate")]
    pub(super) max_fps: Option<f64>,
    /// Slow down from this temperature on, °C.
    #[arg(long, value_name = "CELSIUS", help_heading = "Rate")]
    pub(super) cool_below: Option<f64>,
    /// Look only when a part of the picture changes by so much of 255.
    #[arg(long, value_name = "LEVELS", help_heading = "Rate")]
    pub(super) motion: Option<f32>,
    /// An output that is on while a class is decided; repeatable.
    #[arg(long, value_name = "PIN=CLASS[,CLASS]", help_heading = "Action")]
    pub(super) led: Vec<String>,
    /// Outputs of --led are on when low.
    #[arg(long, requires = "led", help_heading = "Action")]
    pub(super) active_low: bool,
    /// A button to ground that asks for one classification.
    #[arg(long, value_name = "PIN", help_heading = "Action")]
    pub(super) button: Option<String>,
    /// Keep decisions as lines of JSON in this folder.
    #[arg(long, value_name = "DIR", help_heading = "Action")]
    pub(super) log: Option<PathBuf>,
    /// Keep pictures of the classes of --snapshot in this folder.
    #[arg(long, value_name = "DIR", requires = "snapshot", help_heading = "Action")]
    pub(super) snapshots: Option<PathBuf>,
    /// A class, or unknown; repeatable.
    #[arg(long, value_name = "CLASS", requires = "snapshots", help_heading = "Action")]
    pub(super) snapshot: Vec<String>,
    /// A page with the live picture, its figures, and an API at this address.
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "HTTP")]
    pub(super) listen: Option<SocketAddr>,
    /// A file with the token that requests must bring. Needed to listen on any address but this machine's
    /// own.
    #[arg(long, value_name = "FILE", help_heading = "HTTP")]
    pub(super) token_file: Option<PathBuf>,
    /// Where frames go that the page saves as pictures of a class, for `kinglet-tools retrain`.
    #[arg(long, value_name = "DIR", help_heading = "HTTP")]
    pub(super) collect: Option<PathBuf>,
    /// Certificate (PEM, with those that lead to its issuer) for HTTPS.
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "HTTP")]
    pub(super) tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "HTTP")]
    pub(super) tls_key: Option<PathBuf>,
    /// Publish to this broker, such as `mqtt://user@host:1883/prefix`; `mqtts://` for TLS. User, port and
    /// prefix may be left out.
    #[arg(long, value_name = "URL", help_heading = "Action")]
    pub(super) mqtt: Option<String>,
    /// The password for the broker; else it comes from KINGLET_MQTT_PASSWORD.
    #[arg(long, value_name = "FILE", help_heading = "Action")]
    pub(super) mqtt_password_file: Option<PathBuf>,
    /// Lines of JSON.
    #[arg(long, help_heading = "Output")]
    pub(super) json: bool,
    /// A line for every inference, not for changes alone.
    #[arg(long, help_heading = "Output")]
    pub(super) all: bool,
    /// Say more of what goes on.
    #[arg(long, short, help_heading = "Output")]
    pub(super) verbose: bool,
    /// Print a unit for systemd that runs this program: it is started at boot and again whenever it
    /// ends, and can do no more than it needs.
    #[arg(long, help_heading = "Service")]
    pub(super) print_unit: bool,
    /// Switch off the outputs that `watch` has left on, and end: the unit does it after a crash.
    #[arg(long, help_heading = "Service")]
    pub(super) release_pins: bool,
    /// End after so many seconds.
    #[arg(long, value_name = "SECONDS", help_heading = "Output")]
    pub(super) seconds: Option<f64>,
}

fn size(text: &str) -> Result<[u32; 2], String> {
    let parts = text.split_once('x').map(|(w, h)| (w.parse(), h.parse()));
    match parts {
        Some((Ok(width), Ok(height))) => Ok([width, height]),
        _ => Err("it is WIDTHxHEIGHT, such as 1280x720".into()),
    }
}

/// Replaces what the command line says.
fn over<T: Clone>(configured: &mut Option<T>, given: &Option<T>) {
    if given.is_some() {
        configured.clone_from(given);
    }
}

impl Args {
    /// The configuration with the command line over it.
    pub(super) fn configuration(&self) -> Result<Config, Usage> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        over(&mut config.model, &self.file.clone().or(self.model.model.clone()));
        over(&mut config.threads, &self.model.threads);
        over(&mut config.shadow, &self.shadow);
        over(&mut config.public_key, &self.model.public_key);
        config.shadow_key.clone_from(&config.public_key);
        config.update.as_ref().map_or(Ok(()), Settings::check)?;
        let camera = &mut config.camera;
        over(&mut camera.source, &self.camera);
        over(&mut camera.size, &self.size);
        over(&mut camera.fps, &self.fps);
        over(&mut camera.format, &self.format);
        camera.repeat |= self.repeat;
        camera.every_frame |= self.every_frame;
        let decide = &mut config.decide;
        over(&mut decide.top, &self.top);
        over(&mut decide.window, &self.window);
        over(&mut decide.enter, &self.enter);
        over(&mut decide.leave, &self.leave);
        over(&mut decide.unknown_below, &self.unknown_below);
        decide.smoothing = self.smoothing.unwrap_or(decide.smoothing);
        decide.hold_ms = self.hold.unwrap_or(decide.hold_ms);
        over(&mut config.rate.max_fps, &self.max_fps);
        over(&mut config.rate.cool_below, &self.cool_below);
        over(&mut config.rate.motion, &self.motion);
        for led in &self.led {
            config.output.push(unspanned(self.led(led)?));
        }
        if let Some(pin) = &self.button {
            let button = config::Button { pin: PinName::Name(pin.clone()), active_low: true };
            config.button.push(unspanned(button));
        }
        if let Some(folder) = &self.log {
            config.log = Some(Log::new(folder));
        }
        if let Some(folder) = &self.snapshots {
            config.snapshots = Some(Snapshots::new(folder, &self.snapshot));
        }
        self.http(&mut config)?;
        if let Some(url) = &self.mqtt {
            config.mqtt.get_or_insert_with(|| mqtt::Settings::new(url)).url.clone_from(url);
        }
        match (&mut config.mqtt, &self.mqtt_password_file) {
            (Some(mqtt), Some(file)) => {
                (mqtt.password_file, mqtt.password_env) = (Some(file.clone()), None);
            }
            (None, Some(_)) => return Err(Usage("--mqtt-password-file without --mqtt".into())),
            (_, None) => {}
        }
        Ok(config)
    }

    /// The model that a configuration of ours names, and how it is loaded.
    pub(super) fn model_of(&self, config: &Config) -> ModelArgs {
        ModelArgs {
            model: config.model.clone(),
            threads: config.threads,
            public_key: config.public_key.clone(),
            ..self.model.clone()
        }
    }

    /// The second model, if there is one: loaded as the first, with one thread.
    pub(super) fn shadow_of(&self, config: &Config) -> Option<ModelArgs> {
        let model = Some(config.shadow.clone()?);
        let public_key = config.shadow_key.clone();
        Some(ModelArgs { model, threads: Some(1), pin: false, public_key, ..self.model.clone() })
    }

    fn http(&self, config: &mut Config) -> Result<(), Usage> {
        if let Some(listen) = self.listen {
            config.http.get_or_insert_default().listen = listen;
        }
        let files = [&self.token_file, &self.tls_cert, &self.collect];
        let Some(http) = &mut config.http else {
            return match files.iter().any(|file| file.is_some()) {
                true => Err(Usage("--token-file, --tls-cert and --collect need --listen".into())),
                false => Ok(()),
            };
        };
        over(&mut http.token_file, &self.token_file);
        over(&mut http.collect, &self.collect);
        over(&mut http.tls_cert, &self.tls_cert);
        over(&mut http.tls_key, &self.tls_key);
        if http.tls_cert.is_some() != http.tls_key.is_some() {
            return Err(Usage("http: tls_cert and tls_key go together".into()));
        }
        Ok(())
    }

    fn led(&self, text: &str) -> Result<config::Output, Usage> {
        let (pin, classes) = text
            .split_once('=')
            .ok_or_else(|| Usage(format!("--led {text}: it is PIN=CLASS, such as 17=ants")))?;
        Ok(config::Output {
            pin: PinName::Name(pin.to_owned()),
            class: Names::Several(classes.split(',').map(|c| c.trim().to_owned()).collect()),
            region: None,
            mode: Mode::Steady,
            ms: None,
            active_low: self.active_low,
        })
    }
}
