//! What appears on a display that is a model of the real one's memory.

use std::cell::RefCell;
use std::rc::Rc;

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};
use embedded_hal_mock::eh1::i2c::{Mock, Transaction};

use super::*;

/// The memory of an SSD1306: 8 pages of 128 columns, and what its commands have set.
#[derive(Debug, Default)]
struct Memory {
    pages: Vec<[u8; 128]>,
    columns: (u8, u8),
    rows: (u8, u8),
    at: (u8, u8),
    on: bool,
    writes: usize,
}

#[derive(Debug, Clone)]
struct Fake(Rc<RefCell<Memory>>);

impl Fake {
    fn new() -> Self {
        let memory = Memory { pages: vec![[0xaa; 128]; 8], ..Memory::default() };
        Self(Rc::new(RefCell::new(memory)))
    }

    /// Rows of `#` and spaces, without spaces at their ends.
    fn picture(&self, height: usize) -> String {
        let memory = self.0.borrow();
        let lit = |x: usize, y: usize| memory.pages[y / 8][x] >> (y % 8) & 1 == 1;
        let row = |y| (0..128).map(|x| if lit(x, y) { '#' } else { ' ' }).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned() + "\n").collect()
    }
}

impl Memory {
    fn command(&mut self, bytes: &[u8]) {
        match *bytes {
            [0x21, first, last] => (self.columns, self.at.0) = ((first, last), first),
            [0x22, first, last] => (self.rows, self.at.1) = ((first, last), first),
            [0xaf] => self.on = true,
            [0xae] => self.on = false,
            _ => {}
        }
    }

    /// In horizontal addressing mode.
    fn data(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.pages[usize::from(self.at.1)][usize::from(self.at.0)] = *byte;
            self.at.0 += 1;
            if self.at.0 > self.columns.1 {
                self.at = (self.columns.0, self.at.1 + 1);
                if self.at.1 > self.rows.1 {
                    self.at.1 = self.rows.0;
                }
            }
        }
    }
}

impl ErrorType for Fake {
    type Error = ErrorKind;
}

impl I2c for Fake {
    fn transaction(&mut self, address: u8, parts: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        if address != 0x3c {
            return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
        }
        for part in parts {
            let Operation::Write(bytes) = part else { return Err(ErrorKind::Other) };
            let mut memory = self.0.borrow_mut();
            memory.writes += 1;
            match bytes.split_first() {
                Some((0x00, command)) => memory.command(command),
                Some((0x40, data)) => memory.data(data),
                _ => return Err(ErrorKind::Other),
            }
        }
        Ok(())
    }
}

fn face() -> Face {
    Face {
        decision: Some("tabby".into()),
        score: 0.75,
        fps: 12.34,
        celsius: Some(51.2),
        camera: true,
    }
}

/// Set `KINGLET_BLESS` to write the pictures anew, and look at them.
fn compare(name: &str, picture: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/display/golden");
    let path = path.join(name).with_extension("txt");
    if std::env::var_os("KINGLET_BLESS").is_some() {
        std::fs::write(&path, picture).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(golden == picture, "{name} is now\n{picture}\nand was\n{golden}");
}

#[test]
fn faces_are_as_they_were_looked_at() {
    let long = "black-and-tan coonhound";
    for (name, size, height, face) in [
        ("high", PanelSize::High, 64, face()),
        ("low", PanelSize::Low, 32, face()),
        ("long", PanelSize::High, 64, Face { decision: Some(long.into()), ..face() }),
        ("none", PanelSize::High, 64, Face { camera: false, ..face() }),
        (
            "unsure",
            PanelSize::Low,
            32,
            Face { decision: None, score: 0.02, celsius: None, ..face() },
        ),
    ] {
        let fake = Fake::new();
        let mut panel = Panel::new(fake.clone(), 0x3c, size, false).unwrap();
        assert!(fake.0.borrow().on);
        panel.show(&face).unwrap();
        compare(name, &fake.picture(height));
        panel.off().unwrap();
        assert!(!fake.0.borrow().on);
    }
}

#[test]
fn whatever_is_to_be_shown_fits() {
    for decision in
        ["", "ß", "😀😀", &"x".repeat(5000), "a b c d e f g h i j k l m n o p q r s t u"]
    {
        for (score, fps) in [(f32::NAN, f64::NAN), (-1.0, 1e300), (2.0, f64::INFINITY)] {
            for size in [PanelSize::High, PanelSize::Low] {
                let decision = Some(decision.to_owned());
                let face = Face { decision, score, fps, celsius: Some(f64::NAN), camera: true };
                Panel::new(Fake::new(), 0x3c, size, true).unwrap().show(&face).unwrap();
            }
        }
    }
}

#[test]
fn what_does_not_change_is_not_sent_again_for_ever() {
    let fake = Fake::new();
    let mut panel = Panel::new(fake.clone(), 0x3c, PanelSize::High, false).unwrap();
    panel.show(&face()).unwrap();
    let before = fake.0.borrow().writes;
    panel.show(&face()).unwrap();
    // A whole display is 64 pieces of 16 bytes, and two commands that say where.
    assert!(fake.0.borrow().writes - before <= 66);
}

#[test]
fn a_display_that_is_not_there_or_goes_is_told() {
    let error = Panel::new(Fake::new(), 0x3d, PanelSize::High, false).unwrap_err().to_string();
    assert!(error.contains("0x3d"), "{error}");
    let error = open("/dev/i2c-99".as_ref(), 0x3c, PanelSize::High, false).unwrap_err();
    assert!(error.to_string().contains("raspi-config"), "{error}");
    // The first byte is refused, as by a bus that something holds.
    let refused = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address);
    let mut bus = Mock::new(&[Transaction::write(0x3c, vec![0x00, 0xae]).with_error(refused)]);
    assert!(Panel::new(&mut bus, 0x3c, PanelSize::High, false).is_err());
    bus.done();
}
