/* image.S: the compiled kernels, as device.c finds them. */
	.section .rodata
	.balign 64
	.globl og_cuda_fatbin
	.type og_cuda_fatbin, %object
og_cuda_fatbin:
	.incbin OG_CUDA_FATBIN
	.size og_cuda_fatbin, . - og_cuda_fatbin
	.section .note.GNU-stack, "", %progbits
