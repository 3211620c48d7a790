//! Which of a camera's modes comes nearest to what is asked for. Pure.

use super::super::frame::Layout;
use super::super::source::Wanted;

/// What a camera offers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Offer {
    pub(super) layout: Layout,
    pub(super) sizes: Sizes,
    /// The most frames a second at `size`, where the camera says it.
    pub(super) fps: Vec<((u32, u32), f64)>,
}

/// Sizes of one format.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sizes {
    /// These.
    Listed(Vec<(u32, u32)>),
    /// From, to, and in steps of, for width and height.
    Range { width: [u32; 3], height: [u32; 3] },
}

/// The size that is taken when none is asked for.
const USUAL_SIZE: (u32, u32) = (640, 480);
/// The rate that is hoped for when none is asked for.
const USUAL_FPS: f64 = 15.0;

/// The best mode: the size first, then whether it is fast enough, then the format that costs least
/// to use. `None` when nothing is offered.
pub(super) fn choose(offers: &[Offer], wanted: &Wanted) -> Option<(Layout, (u32, u32))> {
    let size = wanted.size.unwrap_or(USUAL_SIZE);
    let fps = wanted.fps.unwrap_or(USUAL_FPS);
    let mut best: Option<([f64; 4], Layout, (u32, u32))> = None;
    for offer in offers {
        for candidate in offer.sizes.candidates(size) {
            let known = offer.fps.iter().find(|(s, _)| *s == candidate).map(|(_, fps)| *fps);
            let slow = known.map_or(0.0, |most| (fps / most - 1.0).max(0.0));
            let asked = wanted.layout.is_some_and(|layout| layout != offer.layout);
            let cost = [
                f64::from(u8::from(asked)),
                distance(candidate, size),
                if slow < 0.05 { 0.0 } else { slow },
                f64::from(preference(offer.layout)),
            ];
            if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
                best = Some((cost, offer.layout, candidate));
            }
        }
    }
    best.map(|(_, layout, size)| (layout, size))
}

/// How far sizes are apart; too small is worse than too large.
fn distance(a: (u32, u32), wanted: (u32, u32)) -> f64 {
    let side = |a: u32, b: u32| {
        let octaves = (f64::from(a) / f64::from(b)).log2();
        if octaves < 0.0 { -2.0 * octaves } else { octaves }
    };
    side(a.0, wanted.0) + side(a.1, wanted.1)
}

/// Lower is better: what takes least work, with colour before grey.
fn preference(layout: Layout) -> u8 {
    match layout {
        Layout::Nv12 => 0,
        Layout::I420 => 1,
        Layout::Yuyv => 2,
        Layout::Rgb => 3,
        Layout::File => 4,
        Layout::Grey => 5,
    }
}

impl Sizes {
    /// Sizes that come into question.
    fn candidates(&self, wanted: (u32, u32)) -> Vec<(u32, u32)> {
        match self {
            Self::Listed(sizes) => sizes.iter().copied().filter(|s| s.0 > 0 && s.1 > 0).collect(),
            Self::Range { width, height } => {
                let nearest = |[least, most, step]: [u32; 3], wanted: u32| {
                    let (least, step) = (least.max(1), step.max(1));
                    let wanted = wanted.clamp(least, most.max(least));
                    least
                        + (wanted - least).div_ceil(step).min((most.max(least) - least) / step)
                            * step
                };
                vec![(nearest(*width, wanted.0), nearest(*height, wanted.1))]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A usual USB camera.
    fn usb() -> Vec<Offer> {
        let sizes = vec![(640, 480), (1280, 720), (320, 240), (1920, 1080)];
        let fps = |list: [f64; 4]| sizes.iter().copied().zip(list).collect();
        vec![
            Offer {
                layout: Layout::Yuyv,
                sizes: Sizes::Listed(sizes.clone()),
                fps: fps([30.0, 10.0, 30.0, 5.0]),
            },
            Offer {
                layout: Layout::File,
                sizes: Sizes::Listed(sizes.clone()),
                fps: fps([30.0; 4]),
            },
        ]
    }

    fn ask(size: Option<(u32, u32)>, fps: Option<f64>, layout: Option<Layout>) -> Wanted {
        Wanted { size, fps, layout, ..Wanted::default() }
    }

    #[test]
    fn the_nearest_size_fast_enough_in_the_cheapest_format() {
        let choose = |size, fps, layout| choose(&usb(), &ask(size, fps, layout)).unwrap();
        assert_eq!(choose(None, None, None), (Layout::Yuyv, (640, 480)));
        assert_eq!(choose(Some((1280, 720)), None, None), (Layout::File, (1280, 720)));
        assert_eq!(choose(Some((1280, 720)), Some(10.0), None), (Layout::Yuyv, (1280, 720)));
        assert_eq!(choose(Some((1000, 600)), Some(5.0), None), (Layout::Yuyv, (1280, 720)));
        assert_eq!(choose(Some((64, 64)), None, None), (Layout::Yuyv, (320, 240)));
        let yuyv = Some(Layout::Yuyv);
        assert_eq!(choose(Some((1920, 1080)), Some(30.0), yuyv), (Layout::Yuyv, (1920, 1080)));
        // What it does not have is replaced.
        assert_eq!(choose(None, None, Some(Layout::Grey)), (Layout::Yuyv, (640, 480)));
        assert!(super::choose(&[], &Wanted::default()).is_none());
    }

    #[test]
    fn ranges_are_kept_to_with_their_steps() {
        let sizes = Sizes::Range { width: [32, 2592, 16], height: [32, 1944, 2] };
        let offers = [Offer { layout: Layout::Nv12, sizes, fps: vec![] }];
        let size = |w, h| choose(&offers, &ask(Some((w, h)), None, None)).unwrap().1;
        assert_eq!(size(640, 480), (640, 480));
        assert_eq!(size(641, 481), (656, 482));
        assert_eq!(size(16, 16), (32, 32));
        assert_eq!(size(8000, 8000), (2592, 1944));
    }

    proptest! {
        #[test]
        fn whatever_is_offered_there_is_an_answer_within_it(
            width in prop::array::uniform3(0u32..5000),
            height in prop::array::uniform3(0u32..5000),
            wanted in (1u32..9000, 1u32..9000),
        ) {
            let offers = [Offer { layout: Layout::Rgb, sizes: Sizes::Range { width, height }, fps: vec![] }];
            let (_, (w, h)) = choose(&offers, &ask(Some(wanted), None, None)).unwrap();
            prop_assert!(w >= width[0].max(1) && w <= width[1].max(width[0].max(1)));
            prop_assert!(h >= height[0].max(1) && h <= height[1].max(height[0].max(1)));
        }
    }
}
