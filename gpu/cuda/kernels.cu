/*
 * kernels.cu: all kernels of the CUDA back end, as one image. Host code finds them by name.
 */
#include "attention.cuh"
#include "draw.cuh"
#include "matmul.cuh"
#include "rows.cuh"
