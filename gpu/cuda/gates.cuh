/*
 * gates.cuh: what becomes of gate and up where a library has multiplied.
 */
#pragma once
#include "gpu/cuda/mma.cuh"

enum { GATE_THREADS = 256 };

/* out (rows, ld) bf16 = act(gate) * up, of gates (rows, cols) f32 in turns of both. */
extern "C" __global__ void __launch_bounds__(GATE_THREADS)
	gate_rows(__nv_bfloat16 *__restrict__ out, const float *__restrict__ gates, uint32_t n_out,
		uint32_t cols, uint32_t ld, int epilogue)
{
	uint32_t i = blockIdx.y * GATE_THREADS + threadIdx.x;
	const float *gate = gates + (size_t)blockIdx.x * cols +
			    i / OG_CUDA_GATE_ROWS * 2 * OG_CUDA_GATE_ROWS + i % OG_CUDA_GATE_ROWS;

	if (i < n_out)
		out[(size_t)blockIdx.x * ld + i] =
			__float2bfloat16_rn(gated(gate[0], gate[OG_CUDA_GATE_ROWS], epilogue));
}
