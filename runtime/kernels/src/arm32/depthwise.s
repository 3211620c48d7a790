@ All channels of one pixel of a depthwise convolution. One argument, a pointer to Pixel (depthwise/neon32.rs).
@
@   q0-q3    bounds, between the sums of one block of channels and the next
@   q4-q7    16 values of one tap, widened to 16 bits, and their weights
@   q8-q11   sums

        kinglet_begin kinglet_depthwise_neon32
        ldr     r1, [r0]                @ taps
        ldr     r2, [r0, #4]            @ count
        ldr     r3, [r0, #8]            @ w
        ldr     r4, [r0, #12]           @ ends
        ldr     r5, [r0, #16]           @ bounds
        ldr     r6, [r0, #20]           @ out
        ldr     r7, [r0, #24]           @ blocks of 16 channels
        mov     r8, #0                  @ the block's first channel
        kinglet_bounds r5
1:      cmp     r7, #1
        ldreq   r8, [r0, #28]           @ last
        add     r9, r4, #64
        vld1.32 {d16-d19}, [r4]!
        vld1.32 {d20-d23}, [r9]!
        mov     r10, r1
        mov     r11, r2
2:      ldr     r12, [r10], #4
        add     r12, r12, r8
        vld1.8  {d8, d9}, [r12]
        vld1.16 {d12-d15}, [r3]!
        vmovl.u8 q5, d9
        vmovl.u8 q4, d8
        vmlal.s16 q8, d12, d8
        vmlal.s16 q9, d13, d9
        vmlal.s16 q10, d14, d10
        vmlal.s16 q11, d15, d11
        subs    r11, r11, #1
        bne     2b
        vld1.32 {d8-d11}, [r4]
        vld1.32 {d12-d15}, [r9]!
        mov     r4, r9
        kinglet_scale q8, q4
        kinglet_scale q9, q5
        kinglet_scale q10, q6
        kinglet_scale q11, q7
        kinglet_round q8
        kinglet_round q9
        kinglet_round q10
        kinglet_round q11
        vmovn.i32 d16, q8
        vmovn.i32 d17, q9
        vmovn.i32 d18, q10
        vmovn.i32 d19, q11
        vmovn.i16 d16, q8
        vmovn.i16 d17, q9
        add     r12, r6, r8
        vst1.8  {d16, d17}, [r12]
        add     r8, r8, #16
        subs    r7, r7, #1
        bne     1b
        kinglet_end kinglet_depthwise_neon32
