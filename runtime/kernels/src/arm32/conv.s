@ Tiles of pixels times a panel of 8 channels: the sums stay in registers. One argument, a pointer to Tiles
@ (conv/neon32.rs).
@
@   q0-q3    8 values of depth of each pixel, widened to 16 bits
@   q4-q7    weights of 4 values of depth, 8 channels each
@   q8-q15   sums: two registers a pixel

@ Value \lane of the four that a register holds of each pixel, times the weights in \low and \high.
        .macro  kinglet_conv_step4 low, high, a, b, c, d
        vmlal.s16 q8, \low, \a
        vmlal.s16 q9, \high, \a
        vmlal.s16 q10, \low, \b
        vmlal.s16 q11, \high, \b
        vmlal.s16 q12, \low, \c
        vmlal.s16 q13, \high, \c
        vmlal.s16 q14, \low, \d
        vmlal.s16 q15, \high, \d
        .endm

        .macro  kinglet_conv_half4 a, b, c, d
        vld1.16 {d8-d11}, [r8]!
        vld1.16 {d12-d15}, [r8]!
        kinglet_conv_step4 d8, d9, \a[0], \b[0], \c[0], \d[0]
        kinglet_conv_step4 d10, d11, \a[1], \b[1], \c[1], \d[1]
        kinglet_conv_step4 d12, d13, \a[2], \b[2], \c[2], \d[2]
        kinglet_conv_step4 d14, d15, \a[3], \b[3], \c[3], \d[3]
        .endm

        .macro  kinglet_conv_half1 a
        vld1.16 {d8-d11}, [r8]!
        vld1.16 {d12-d15}, [r8]!
        vmlal.s16 q8, d8, \a[0]
        vmlal.s16 q9, d9, \a[0]
        vmlal.s16 q8, d10, \a[1]
        vmlal.s16 q9, d11, \a[1]
        vmlal.s16 q8, d12, \a[2]
        vmlal.s16 q9, d13, \a[2]
        vmlal.s16 q8, d14, \a[3]
        vmlal.s16 q9, d15, \a[3]
        .endm

@ Adds the residual's codes of one pixel, less their zero point (q4), times their multiplier (q5).
        .macro  kinglet_conv_add low, high
        vld1.8  {d0}, [lr]
        add     lr, lr, r12
        vmovl.u8 q0, d0
        vmovl.u16 q1, d1
        vmovl.u16 q0, d0
        vcvt.f32.u32 q0, q0
        vcvt.f32.u32 q1, q1
        vsub.f32 q0, q0, q4
        vsub.f32 q1, q1, q4
        vmul.f32 q0, q0, q5
        vmul.f32 q1, q1, q5
        vadd.f32 \low, \low, q0
        vadd.f32 \high, \high, q1
        .endm

        .macro  kinglet_conv_write low, high
        kinglet_round \low
        kinglet_round \high
        vmovn.i32 d8, \low
        vmovn.i32 d9, \high
        vmovn.i16 d8, q4
        vst1.8  {d8}, [r3]
        add     r3, r3, r12
        .endm

@ What both tiles begin with.
        .macro  kinglet_conv_load
        ldr     r1, [r0]                @ x
        ldr     r2, [r0, #4]            @ x_stride
        ldr     r3, [r0, #24]           @ out
        ldr     r12, [r0, #28]          @ out_stride
        ldr     lr, [r0, #32]           @ residual
        ldr     r11, [r0, #36]          @ count
        .endm

@ What both tiles end with: where the next ones begin.
        .macro  kinglet_conv_store
        str     r1, [r0]
        str     r3, [r0, #24]
        str     lr, [r0, #32]
        .endm

        kinglet_begin kinglet_conv_neon32_4x8
        kinglet_conv_load
1:      ldr     r10, [r0, #16]          @ end
        ldr     r8, [r0, #8]            @ w
        ldr     r9, [r0, #12]           @ groups
        vld1.32 {d16-d19}, [r10]!
        mov     r4, r1
        add     r5, r1, r2
        add     r6, r5, r2
        add     r7, r6, r2
        add     r1, r7, r2
        vmov    q10, q8
        vmov    q11, q9
        vmov    q12, q8
        vmov    q13, q9
        vmov    q14, q8
        vmov    q15, q9
2:      vld1.8  {d0}, [r4]!
        vld1.8  {d2}, [r5]!
        vld1.8  {d4}, [r6]!
        vld1.8  {d6}, [r7]!
        vmovl.u8 q0, d0
        vmovl.u8 q1, d2
        vmovl.u8 q2, d4
        vmovl.u8 q3, d6
        kinglet_conv_half4 d0, d2, d4, d6
        kinglet_conv_half4 d1, d3, d5, d7
        subs    r9, r9, #1
        bne     2b
        vld1.32 {d8-d11}, [r10]
        kinglet_scale q8, q4
        kinglet_scale q9, q5
        kinglet_scale q10, q4
        kinglet_scale q11, q5
        kinglet_scale q12, q4
        kinglet_scale q13, q5
        kinglet_scale q14, q4
        kinglet_scale q15, q5
        ldr     r9, [r0, #20]           @ bounds
        cmp     lr, #0
        beq     3f
        add     r10, r9, #16
        vld1.32 {d8[], d9[]}, [r10]!
        vld1.32 {d10[], d11[]}, [r10]
        kinglet_conv_add q8, q9
        kinglet_conv_add q10, q11
        kinglet_conv_add q12, q13
        kinglet_conv_add q14, q15
3:      kinglet_bounds r9
        kinglet_conv_write q8, q9
        kinglet_conv_write q10, q11
        kinglet_conv_write q12, q13
        kinglet_conv_write q14, q15
        subs    r11, r11, #1
        bne     1b
        kinglet_conv_store
        kinglet_end kinglet_conv_neon32_4x8

        kinglet_begin kinglet_conv_neon32_1x8
        kinglet_conv_load
1:      ldr     r10, [r0, #16]          @ end
        ldr     r8, [r0, #8]            @ w
        ldr     r9, [r0, #12]           @ groups
        vld1.32 {d16-d19}, [r10]!
        mov     r4, r1
        add     r1, r1, r2
2:      vld1.8  {d0}, [r4]!
        vmovl.u8 q0, d0
        kinglet_conv_half1 d0
        kinglet_conv_half1 d1
        subs    r9, r9, #1
        bne     2b
        vld1.32 {d8-d11}, [r10]
        kinglet_scale q8, q4
        kinglet_scale q9, q5
        ldr     r9, [r0, #20]           @ bounds
        cmp     lr, #0
        beq     3f
        add     r10, r9, #16
        vld1.32 {d8[], d9[]}, [r10]!
        vld1.32 {d10[], d11[]}, [r10]
        kinglet_conv_add q8, q9
3:      kinglet_bounds r9
        kinglet_conv_write q8, q9
        subs    r11, r11, #1
        bne     1b
        kinglet_conv_store
        kinglet_end kinglet_conv_neon32_1x8
