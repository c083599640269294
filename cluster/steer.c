#include "cluster/steer.h"

#include "dht/view.h"
#include "transport/stream.h"
#include "transport/udx_wire.h"

uint16_t og_steer(const uint8_t *data, uint16_t len_bytes, uint16_t self, uint16_t nb_cores)
{
	struct og_udx_header h;
	uint16_t core;

	if (!og_udx_decode(&h, data, len_bytes))
		return og_dht_view_takes(data, len_bytes) ? self : 0;
	core = og_stream_core_of(h.id);
	return core < nb_cores ? core : self;
}

/* A jump is told how many instructions to leave out when it is and when it is not so. */
uint16_t og_steer_program(struct sock_filter out[OG_STEER_PROGRAM_MAX], uint16_t nb_cores)
{
	const struct sock_filter program[] = {
		/* Beyond the end of a datagram a load ends the program with 0. */
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OG_UDX_MAGIC, 0, 6),
		/* UDX: the low byte of the id. */
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 1),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OG_UDX_VERSION, 0, 13),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 4),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 63),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, nb_cores, 10, 0),
		BPF_STMT(BPF_RET | BPF_A, 0),
		/* A DHT request, internal, without a token and without an id. */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x03, 0, 8),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 1),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x07),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x04, 0, 5),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 10),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xfd), /* 0 and 2: PING, FIND_NODE */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 2),
		BPF_STMT(BPF_JMP | BPF_JA, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, nb_cores),
		BPF_STMT(BPF_RET | BPF_A, 0),
	};
	static_assert(OG_ARRAY_LEN(program) <= OG_STEER_PROGRAM_MAX, "room for it");

	for (size_t i = 0; i < OG_ARRAY_LEN(program); i++)
		out[i] = program[i];
	return OG_ARRAY_LEN(program);
}
