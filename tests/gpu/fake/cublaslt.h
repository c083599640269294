/*
 * cublaslt.h: the knobs of the cuBLASLt that only plays one (libcublaslt.c). A test finds them with
 * dlsym("fake_cublaslt").
 *
 * Threads: one.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct fake_cublaslt {
	bool no_start;
	bool no_algorithm;
	bool fails; /* each product */
	uint64_t nb_products;
	int64_t nb_live; /* handles, descriptors */
};

struct fake_cublaslt *fake_cublaslt(void);
