@ What one core can do at most (peak/neon32.rs).

@ r0 rounds of a multiply-accumulate to each of 12 accumulators; all operands are zero.
        kinglet_begin kinglet_peak_neon32
        vmov.i32 q0, #0
        vmov    q4, q0
        vmov    q5, q0
        vmov    q6, q0
        vmov    q7, q0
        vmov    q8, q0
        vmov    q9, q0
        vmov    q10, q0
        vmov    q11, q0
        vmov    q12, q0
        vmov    q13, q0
        vmov    q14, q0
        vmov    q15, q0
1:      vmlal.s16 q4, d0, d1
        vmlal.s16 q5, d0, d1
        vmlal.s16 q6, d0, d1
        vmlal.s16 q7, d0, d1
        vmlal.s16 q8, d0, d1
        vmlal.s16 q9, d0, d1
        vmlal.s16 q10, d0, d1
        vmlal.s16 q11, d0, d1
        vmlal.s16 q12, d0, d1
        vmlal.s16 q13, d0, d1
        vmlal.s16 q14, d0, d1
        vmlal.s16 q15, d0, d1
        subs    r0, r0, #1
        bne     1b
        kinglet_end kinglet_peak_neon32

@ Reads r1 bytes from r0 on, 64 at a time.
        kinglet_begin kinglet_read_neon32
1:      vld1.8  {d0-d3}, [r0]!
        vld1.8  {d4-d7}, [r0]!
        subs    r1, r1, #64
        bne     1b
        kinglet_end kinglet_read_neon32
