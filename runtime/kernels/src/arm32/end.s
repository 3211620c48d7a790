@ What the routines for 32-bit ARM share. Bounds and End are those of mod.rs.

        .syntax unified
        .arm
        .fpu    neon

@ A routine that Rust calls: a pointer in r0. It may use all registers.
        .macro  kinglet_begin name
        .section .text.\name, "ax", %progbits
        .p2align 4
        .globl  \name
        .hidden \name
        .type   \name, %function
\name:
        push    {r4-r11, lr}
        vpush   {d8-d15}
        .endm

        .macro  kinglet_end name
        vpop    {d8-d15}
        pop     {r4-r11, pc}
        .size   \name, . - \name
        .endm

@ Four sums by channel become real numbers, times the channels' multipliers.
        .macro  kinglet_scale sums, multipliers
        vcvt.f32.s32 \sums, \sums
        vmul.f32 \sums, \sums, \multipliers
        .endm

@ low, high, magic and code of the Bounds at \bounds, which is moved, to all lanes of q0 to q3.
        .macro  kinglet_bounds bounds
        vld1.32 {d0[], d1[]}, [\bounds]!
        vld1.32 {d2[], d3[]}, [\bounds]!
        vld1.32 {d4[], d5[]}, [\bounds]!
        vld1.32 {d6[], d7[]}, [\bounds]
        .endm

@ Four real numbers become codes: within the bounds, rounded to even by adding what leaves no room for
@ a fraction, less what that is as an integer.
        .macro  kinglet_round value
        vmax.f32 \value, \value, q0
        vmin.f32 \value, \value, q1
        vadd.f32 \value, \value, q2
        vsub.i32 \value, \value, q3
        .endm
