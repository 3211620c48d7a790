//! Choices change no bit of a result; files that keep them are taken up only where they were made,
//! and never break a load.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use kinglet_engine::choices::{Choice, Choices, Form};
use kinglet_engine::tune::{self, Chosen, Conditions, Tuning};
use kinglet_engine::{Isa, Options, Session};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/efficientnet-lite0-int8.onnx")
}

fn bits(session: &mut Session) -> Vec<u32> {
    let input = session.sample_input();
    session.run(&input).unwrap().iter().map(|v| v.to_bits()).collect()
}

/// The first of the layers that run as one where an expansion and a depthwise layer are among them.
fn pairs(session: &Session) -> Vec<String> {
    let pairs =
        session.report().layers.into_iter().filter(|l| l.kernel.contains("expand_depthwise"));
    pairs.filter_map(|l| l.fused.first().cloned()).collect()
}

#[test]
fn every_choice_gives_the_same_bits_and_does_what_it_says() {
    for (isa, threads) in Isa::available().into_iter().flat_map(|isa| [(isa, 1), (isa, 2)]) {
        if isa == Isa::Scalar {
            continue;
        }
        let load = |choices| {
            let options = Options { isa: Some(isa), threads, choices, ..Options::default() };
            Session::load(&shipped(), &options).unwrap()
        };
        let expected = bits(&mut load(Choices::default()));
        let fused = [None, Some(false), Some(true)];
        for (fused, &form) in
            fused.into_iter().flat_map(|f| Form::of(isa).iter().map(move |form| (f, form)))
        {
            let choice = Choice { fused, form: Some(form) };
            let mut session = load(Choices::everywhere(choice));
            assert_eq!(bits(&mut session), expected, "{} {threads} {choice:?}", isa.name());
            let pairs = pairs(&session).len();
            match fused {
                Some(false) => assert_eq!(pairs, 0),
                Some(true) => assert!(pairs > 5, "{}: {pairs}", isa.name()),
                None => {}
            }
        }
    }
}

#[test]
fn single_layers_are_chosen_for_by_name() {
    let load = |choices| {
        let options = Options { isa: Some(Isa::best()), choices, ..Options::default() };
        Session::load(&shipped(), &options).unwrap()
    };
    let mut usual = load(Choices::default());
    let mut before = pairs(&usual);
    let mut choices = Choices::default();
    let gone = before.remove(before.len() / 2);
    choices.layers.insert(gone, Choice { fused: Some(false), form: None });
    choices.layers.insert("no such layer".into(), Choice { fused: Some(true), form: None });
    let mut session = load(choices);
    assert_eq!(pairs(&session), before);
    assert_eq!(bits(&mut session), bits(&mut usual));
}

/// A copy of the model in a folder of its own, and the choices beside it.
struct Beside {
    _folder: tempfile::TempDir,
    model: PathBuf,
    file: PathBuf,
}

impl Beside {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m.onnx");
        std::fs::copy(shipped(), &model).unwrap();
        Self { file: tune::beside(&model), model, _folder: folder }
    }

    fn load(&self, cpu: &str, threads: usize) -> Session {
        let isa = Some(Isa::best());
        let tuned_for = Some(cpu.to_owned());
        let options = Options { isa, threads, tuned_for, self_test: false, ..Options::default() };
        Session::load(&self.model, &options).unwrap()
    }

    fn ignored(&self, cpu: &str, threads: usize) -> String {
        match self.load(cpu, threads).tuning() {
            Tuning::Ignored { file, why } => {
                assert_eq!(*file, self.file);
                assert!(!why.contains('\n') && !why.is_empty(), "{why}");
                why.clone()
            }
            other => panic!("{other:?}"),
        }
    }
}

fn chosen() -> Chosen {
    let choice = Choice { fused: Some(false), form: Some(Form::Wide) };
    let layers =
        [("blocks.1.expand".to_owned(), (choice, 0.125)), ("\"\n]".to_owned(), (choice, 0.5))];
    Chosen { layers: layers.into(), margin: 0.02, times_ms: [2.0, 1.5] }
}

#[test]
fn what_was_chosen_is_taken_up_where_it_was_made_and_only_there() {
    let beside = Beside::new();
    assert_eq!(*beside.load("a board", 1).tuning(), Tuning::None);
    let conditions = Conditions::new(&beside.model, "a board", Isa::best().name(), 1).unwrap();
    let text = tune::text(&conditions, &chosen()).unwrap();
    std::fs::write(&beside.file, &text).unwrap();
    let mut session = beside.load("a board", 1);
    assert_eq!(*session.tuning(), Tuning::Taken { file: beside.file.clone(), layers: 2 });
    let apart =
        |session: &Session| session.report().layers.iter().any(|l| l.name == "blocks.1.expand");
    assert!(apart(&session), "the pair runs as two layers");
    let options = Options { isa: Some(Isa::best()), self_test: false, ..Options::default() };
    let mut usual = Session::load(&beside.model, &options).unwrap();
    assert_eq!(*usual.tuning(), Tuning::None, "not asked for");
    assert_eq!(bits(&mut session), bits(&mut usual));
    assert!(beside.ignored("a board", 2).contains("threads"));
    assert!(beside.ignored("another board", 1).contains("another board"));
    let other = text.replace(&format!("isa = \"{}\"", Isa::best().name()), "isa = \"sse\"");
    std::fs::write(&beside.file, other).unwrap();
    assert!(beside.ignored("a board", 1).contains("instruction set"));
    std::fs::write(&beside.file, text.replace("version = \"", "version = \"9")).unwrap();
    assert!(beside.ignored("a board", 1).contains("version"));
    std::fs::write(&beside.file, &text).unwrap();
    let mut bytes = std::fs::read(&beside.model).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&beside.model, bytes).unwrap();
    assert!(beside.ignored("a board", 1).contains("model"));
}

#[test]
fn damaged_files_are_a_line_and_no_error() {
    let beside = Beside::new();
    let conditions = Conditions::new(&beside.model, "c", Isa::best().name(), 1).unwrap();
    let text = tune::text(&conditions, &chosen()).unwrap();
    let damaged: [Vec<u8>; 9] = [
        Vec::new(),
        b"layers = 3".to_vec(),
        vec![0xFF; 100],
        vec![b'['; 1 << 20],
        vec![b'#'; (1 << 20) + 1],
        text.as_bytes()[..text.len() / 2].to_vec(),
        text.replace("wide", "diagonal").into_bytes(),
        text.replace("threads = 1", "threads = -1").into_bytes(),
        (text.clone() + "more = 1\n").into_bytes(),
    ];
    for bytes in damaged {
        std::fs::write(&beside.file, bytes).unwrap();
        beside.ignored("c", 1);
    }
    std::fs::remove_file(&beside.file).unwrap();
    std::fs::create_dir(&beside.file).unwrap();
    beside.ignored("c", 1);
}

#[test]
fn a_search_chooses_nothing_that_changes_bits() {
    let load = |choices: &Choices| {
        let options = Options {
            isa: Some(Isa::best()),
            self_test: false,
            choices: choices.clone(),
            ..Options::default()
        };
        Session::load(&shipped(), &options)
    };
    let mut heard = Vec::new();
    let chosen = tune::search(load, 4, |done, all| heard.push((done, all))).unwrap();
    assert_eq!(heard.last(), Some(&(8, 8)));
    assert!(chosen.margin >= 0.02 && chosen.times_ms.iter().all(|ms| ms.is_finite() && *ms > 0.0));
    assert!(chosen.layers.values().all(|(_, won)| *won >= chosen.margin));
    let choices = chosen.choices();
    assert_eq!(bits(&mut load(&choices).unwrap()), bits(&mut load(&Choices::default()).unwrap()));
}
