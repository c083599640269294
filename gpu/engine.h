/*
 * engine.h: answers prompts: queue, batch, forward pass, sampling, text.
 *
 * Requests are batched continuously: each step computes one token for every running request, and
 * part of the prompt of those that have just begun. A request's tokens are the same alone and in
 * company, after a prefix that was computed for another, and after giving way to others: where the
 * KV cache runs short the youngest waits, its part of the cache in host memory. On a device tokens are
 * sampled where they are computed, and a step begins before those of the one before are known.
 * Whoever drives the engine submits requests and polls events; each request that was accepted ends in
 * exactly one DONE or ERROR event.
 *
 * Units:   tokens, bytes.
 * Threads: all calls from one engine thread; the statistics may be read from any.
 * Memory:  made at create for the stated maxima. The engine owns a request from submit on.
 */
#pragma once
#include "base/infer.h"
#include "gpu/loader.h"

enum og_engine_backend {
	OG_BACKEND_AUTO, /* CUDA if a device is present, else the CPU; nothing without a path */
	OG_BACKEND_CPU,
	OG_BACKEND_CUDA,
	OG_BACKEND_ECHO, /* answers "[echo] <prompt>" */
	OG_BACKEND_NONE, /* refuses everything */
};

enum {
	OG_ENGINE_CONTEXT_DEFAULT = 4096,
	OG_ENGINE_BATCH_DEFAULT = 8,
	OG_ENGINE_BATCH_MAX = 1024,
	OG_ENGINE_QUEUE_DEFAULT = 64,
	OG_ENGINE_QUEUE_MAX = 64 * 1024,
	OG_ENGINE_THREADS_MAX = 1024,
};

struct og_engine_opts {
	const char *path; /* of a GGUF file, or of a folder as Hugging Face publishes it */
	const char *name; /* NULL: the file's, without folder and .gguf */
	enum og_engine_backend backend;
	uint32_t device;          /* number of the GPU; of no meaning to the CPU */
	uint32_t context;         /* tokens per sequence; 0: default. At most what the model has */
	uint32_t max_batch;       /* sequences at once; 0: default */
	uint32_t queue;           /* requests waiting beyond those; 0: default */
	uint64_t kv_memory_bytes; /* of the cache; 0: enough for max_batch full contexts */
	uint64_t swap_memory_bytes; /* of the host, for who gives way; 0: as much as the cache */
	bool no_prefix_reuse;       /* compute each prompt anew */
	bool fp8_weights, fp8_kv;   /* on a device: half the bytes, and a little of the precision */
	bool cublaslt;    /* on a GPU, prompts are multiplied by that library, if it is installed */
	bool conveyor;    /* a device computes steps of few tokens as one launch, where it can */
	uint32_t threads; /* 0: as many as this process may run on */
	/*
	 * Begun before the results of the one before are known: 1 or 2; 0: 2 where they overlap, on a
	 * device. The answers are the same.
	 */
	uint32_t steps_max;
	/*
	 * The weights follow after create has checked everything else, and the first step starts the
	 * back end. Requests are taken meanwhile and computed as far as the weights are here.
	 */
	bool background;
};

enum og_engine_load { OG_ENGINE_LOADING, OG_ENGINE_LOADED, OG_ENGINE_FAILED };

/* Written by the engine thread. */
struct og_engine_stats {
	uint64_t running;
	uint64_t queued;
	uint64_t parked;         /* of the requests begun, those that had to give way */
	uint64_t kv_tokens_used; /* room held by requests, in whole pages */
	uint64_t kv_tokens_total;
	uint64_t kv_tokens_reusable; /* of prompts past, held by nobody */
	uint64_t swap_bytes_used;
	uint64_t requests_total;
	uint64_t refused_total;
	uint64_t done_total; /* finished by themselves */
	uint64_t cancelled_total;
	uint64_t failed_total;
	uint64_t prompt_tokens_total;     /* computed */
	uint64_t completion_tokens_total; /* sampled */
	uint64_t prefix_hit_tokens_total; /* of prompts, found instead of computed */
	uint64_t parked_total;
	uint64_t recomputed_total; /* parked without room to keep what they had */
	uint64_t steps_total;
	uint64_t steps_ahead_total; /* of them, begun before the one before was over */
	uint64_t drawn_total; /* tokens that the back end sampled, of completion_tokens_total */
	uint64_t host_bytes_total; /* results copied from a device */
	uint64_t busy_ns_total;    /* while a step is computed: tokens over this are tokens/s */
	uint64_t weight_bytes;
	uint64_t lost; /* 1: the device failed; what comes is refused */
};

struct og_engine;

/*
 * Loads the model, or begins to. Returns 0, or a negative errno with a sentence in `err`: -EOPNOTSUPP for what this
 * build cannot run, -EBADMSG for a bad file, -ENOMEM, -EINVAL for bad options, or that of the file.
 */
int og_engine_create(struct og_engine **out, const struct og_engine_opts *opts, char *err,
	size_t err_bytes) OG_MUST_CHECK;
/* From any thread. Once FAILED all requests are refused, with og_engine_load_error(). */
enum og_engine_load og_engine_load_state(const struct og_engine *e);
const char *og_engine_load_error(const struct og_engine *e);
const struct og_load_progress *og_engine_load_progress(const struct og_engine *e);
/* From any thread: ends a load in progress, so that no step waits for it any more. */
void og_engine_stop_loading(struct og_engine *e);
/* Frees requests in progress without events. */
void og_engine_destroy(struct og_engine *e);

/*
 * Takes ownership of `req` on 0. Otherwise the caller keeps it and og_engine_refusal() has a sentence:
 * -EBUSY queue full (or too many events not polled), -E2BIG prompt longer than the context,
 * -EEXIST id in use, -EINVAL empty prompt, -EOPNOTSUPP messages without a chat template this build
 * knows, -ENODEV no model.
 */
int og_engine_submit(struct og_engine *e, struct og_infer_request *req) OG_MUST_CHECK;
const char *og_engine_refusal(const struct og_engine *e);
/* Ends the request with DONE / OG_FINISH_CANCELLED; an id that is not outstanding is ignored. */
void og_engine_cancel(struct og_engine *e, uint64_t id);
/* Allow n more text events; a request without credits pauses, and only it. */
void og_engine_credit(struct og_engine *e, uint64_t id, uint32_t n);

/* One unit of work for all running requests. Returns false when there is nothing to do now. */
bool og_engine_step(struct og_engine *e);
/* Up to n events, in order. Unpolled events pause generation, never lose anything. */
uint32_t og_engine_poll(struct og_engine *e, struct og_infer_event *out, uint32_t n);

const char *og_engine_model_name(const struct og_engine *e); /* "" without a model */
const char *og_engine_backend_name(const struct og_engine *e);
uint32_t og_engine_context(const struct og_engine *e);
const struct og_engine_stats *og_engine_stats(const struct og_engine *e);
