/*
 * kernels.cu: all kernels of the CUDA back end, as one image. Host code finds them by name.
 */
#include "gpu/cuda/attention.cuh"
#include "gpu/cuda/attention_wide.cuh"
#include "gpu/cuda/conveyor.cuh"
#include "gpu/cuda/draw.cuh"
#include "gpu/cuda/gates.cuh"
#include "gpu/cuda/matmul.cuh"
#include "gpu/cuda/rows.cuh"
