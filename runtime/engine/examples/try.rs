//! Trial.
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let t = std::time::Instant::now();
    let mut s = kinglet_engine::Session::load(
        a[1].as_ref(),
        &kinglet_engine::Options {
            threads: a.get(2).map_or(1, |t| t.parse().unwrap()),
            ..Default::default()
        },
    )
    .unwrap_or_else(|e| panic!("{e}"));
    println!("load {:?}", t.elapsed());
    let x = s.sample_input();
    let mut best = f64::MAX;
    for _ in 0..30 {
        let t = std::time::Instant::now();
        s.run(&x).unwrap();
        best = best.min(t.elapsed().as_secs_f64() * 1e3);
    }
    let r = s.profile(&x).unwrap();
    let mut by: std::collections::BTreeMap<String, (f64, u64, usize)> = Default::default();
    for l in &r.layers {
        let e = by.entry(format!("{} {} {}", l.operation, l.data_type, l.kernel)).or_default();
        e.0 += l.time.unwrap().as_secs_f64() * 1e3;
        e.1 += l.macs;
        e.2 += 1;
    }
    for (k, v) in by {
        println!("{k:60} {:8.3} ms {:12} {}", v.0, v.1, v.2);
    }
    println!(
        "min {best:.2} ms, macs {:?} arena {} float convs {:?}",
        r.macs(),
        r.arena_bytes,
        r.float_convs
    );
}
