//! Instruction sets: detection, the choice made once when a plan is built, and the tokens that
//! prove it.
//!
//! A token ([`Avx2`], [`Neon`], [`NeonDot`]) is a zero-size value that only its `detect` can
//! make. Kernels keep the token of the instruction set they use, so holding such a kernel is the
//! proof that calling its `#[target_feature]` functions is sound.

use crate::KernelError;

/// An instruction set for which this crate has kernels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Portable Rust: the specification. Available everywhere, fast nowhere.
    Scalar,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512 (F, BW, VL) and its 8-bit dot product (VNNI).
    Avx512Vnni,
    /// 32-bit ARM with NEON (every Raspberry Pi since the 2 under a 32-bit system): dense and depthwise
    /// convolutions of integers; all else is as [`Isa::Scalar`].
    Neon32,
    /// aarch64 baseline (Raspberry Pi 3, 4 and Zero 2 W).
    Neon,
    /// aarch64 with the dot-product extension (Raspberry Pi 5).
    NeonDot,
    /// aarch64 with half-precision arithmetic (Raspberry Pi 5 too): `f16` layers of [`crate::float`]
    /// compute in `f16`. Integer kernels are those of `NeonDot`, or of `Neon` on a CPU without
    /// dot product.
    NeonFp16,
}

impl Isa {
    const ALL: [Isa; 7] = [
        Isa::Scalar,
        Isa::Avx2,
        Isa::Avx512Vnni,
        Isa::Neon32,
        Isa::Neon,
        Isa::NeonDot,
        Isa::NeonFp16,
    ];

    /// The instruction set whose integer kernels this one uses.
    pub(crate) fn for_integers(self) -> Isa {
        match self {
            Isa::NeonFp16 if Isa::NeonDot.is_available() => Isa::NeonDot,
            Isa::NeonFp16 => Isa::Neon,
            other => other,
        }
    }

    /// What this CPU can run, worst first, best last. Never empty: `Scalar` is always there.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// The best instruction set this CPU can run.
    pub fn best() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Isa::Scalar)
    }

    /// [`Isa::best`], unless the environment variable `KINGLET_ISA` names another one
    /// (`scalar`, `avx2`, `avx512-vnni`, `neon32`, `neon`, `neon-dot` or `neon-fp16`; empty counts
    /// as unset).
    ///
    /// # Errors
    /// [`KernelError::UnknownIsa`] for another name, [`KernelError::Unavailable`] if this CPU
    /// lacks the instruction set named.
    pub fn select() -> Result<Isa, KernelError> {
        match std::env::var_os("KINGLET_ISA") {
            None => Ok(Isa::best()),
            Some(name) if name.is_empty() => Ok(Isa::best()),
            Some(name) => Isa::from_name(&name.to_string_lossy()),
        }
    }

    /// The available instruction set called `name`.
    fn from_name(name: &str) -> Result<Isa, KernelError> {
        let isa = Isa::ALL.into_iter().find(|isa| isa.name() == name).ok_or_else(|| {
            KernelError::UnknownIsa { name: name.to_owned(), available: Isa::available() }
        })?;
        isa.check()?;
        Ok(isa)
    }

    /// The name as in `KINGLET_ISA`, reports and benchmarks.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512Vnni => "avx512-vnni",
            Isa::Neon32 => "neon32",
            Isa::Neon => "neon",
            Isa::NeonDot => "neon-dot",
            Isa::NeonFp16 => "neon-fp16",
        }
    }

    fn is_available(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => Avx512Vnni::detect().is_some(),
            #[cfg(target_arch = "arm")]
            Isa::Neon32 => Neon32::detect().is_some(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Neon::detect().is_some(),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => NeonDot::detect().is_some(),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonFp16 => NeonFp16::detect().is_some(),
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// Refuses an instruction set that this CPU lacks.
    pub(crate) fn check(self) -> Result<(), KernelError> {
        if self.is_available() { Ok(()) } else { Err(self.unavailable()) }
    }

    /// The error for an instruction set that this CPU (or this build) lacks.
    pub(crate) fn unavailable(self) -> KernelError {
        KernelError::Unavailable { isa: self, available: Isa::available() }
    }
}

/// Proof that this CPU has AVX2.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    pub(crate) fn detect() -> Option<Avx2> {
        std::arch::is_x86_feature_detected!("avx2").then_some(Avx2(()))
    }
}

/// Proof that this CPU has AVX-512 F, BW, VL and VNNI (and AVX2).
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Vnni(());

#[cfg(target_arch = "x86_64")]
impl Avx512Vnni {
    pub(crate) fn detect() -> Option<Avx512Vnni> {
        (std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("avx512vnni"))
        .then_some(Avx512Vnni(()))
    }
}

/// Proof that this CPU has AVX-512 F, BW and VBMI.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Vbmi(());

#[cfg(target_arch = "x86_64")]
impl Avx512Vbmi {
    pub(crate) fn detect() -> Option<Avx512Vbmi> {
        (std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vbmi"))
        .then_some(Avx512Vbmi(()))
    }
}

/// Proof that this CPU has NEON.
#[cfg(target_arch = "arm")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon32(());

#[cfg(target_arch = "arm")]
impl Neon32 {
    pub(crate) fn detect() -> Option<Neon32> {
        /// `HWCAP_NEON` of the kernel's `asm/hwcap.h`.
        const NEON: usize = 1 << 12;
        (rustix::param::linux_hwcap().0 & NEON != 0).then_some(Neon32(()))
    }
}

/// Proof that this CPU has NEON (part of the aarch64 baseline, checked all the same).
#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon(());

#[cfg(target_arch = "aarch64")]
impl Neon {
    pub(crate) fn detect() -> Option<Neon> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Neon(()))
    }
}

/// Proof that this CPU has NEON with the dot-product extension (`sdot`).
#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct NeonDot(());

#[cfg(target_arch = "aarch64")]
impl NeonDot {
    pub(crate) fn detect() -> Option<NeonDot> {
        (std::arch::is_aarch64_feature_detected!("neon")
            && std::arch::is_aarch64_feature_detected!("dotprod"))
        .then_some(NeonDot(()))
    }
}

/// Proof that this CPU has NEON with half-precision arithmetic (`fmla.8h`).
#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct NeonFp16(Neon);

#[cfg(target_arch = "aarch64")]
impl NeonFp16 {
    pub(crate) fn detect() -> Option<NeonFp16> {
        let neon = Neon::detect()?;
        std::arch::is_aarch64_feature_detected!("fp16").then_some(NeonFp16(neon))
    }

    /// NEON is there too.
    pub(crate) fn neon(self) -> Neon {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalar_is_always_there_and_best_is_last() {
        let available = Isa::available();
        assert_eq!(available[0], Isa::Scalar);
        assert_eq!(available.last().copied(), Some(Isa::best()));
    }

    #[test]
    fn names_round_trip_for_available_sets_and_fail_for_others() {
        for isa in Isa::ALL {
            match Isa::from_name(isa.name()) {
                Ok(found) => {
                    assert_eq!(found, isa);
                    assert!(Isa::available().contains(&isa));
                }
                Err(KernelError::Unavailable { isa: missing, available }) => {
                    assert_eq!(missing, isa);
                    assert!(!available.contains(&isa));
                }
                Err(other) => panic!("unexpected error {other}"),
            }
        }
        let error = Isa::from_name("sse9").expect_err("no such set").to_string();
        assert!(error.contains("sse9") && error.contains("scalar"), "{error}");
    }
}
