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

enum {
	/* Behind an IPv4 head without options; with options it is some part of them. */
	AT_SOURCE_PORT = SKF_NET_OFF + 20,
	MIX_1 = 0x9e3779b1,
	MIX_2 = 0x85ebca6b,
};

/* A jump is told how many instructions to leave out when it is and when it is not so. */
uint16_t og_steer_program(struct sock_filter out[OG_STEER_PROGRAM_MAX], uint16_t nb_cores)
{
	const struct sock_filter program[] = {
		/* Beyond the end of a datagram a load ends the program with 0. */
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OG_UDX_MAGIC, 0, 6),
		/* UDX: the low byte of the id. */
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 1),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OG_UDX_VERSION, 0, 11),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 4),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 63),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, nb_cores, 20, 0),
		BPF_STMT(BPF_RET | BPF_A, 0),
		/* A DHT request, internal, without a token and without an id. */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x03, 0, 6),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 1),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x07),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x04, 0, 3),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 10),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xfd), /* 0 and 2: PING, FIND_NODE */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, 0),
		/* A client may count its ids up in any step, or change its port with each: mixed well. */
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, (uint32_t)AT_SOURCE_PORT),
		BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 16),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 2),
		BPF_STMT(BPF_ALU | BPF_OR | BPF_X, 0),
		BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, MIX_1),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),
		BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
		BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, MIX_2),
		BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),
		BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, nb_cores),
		BPF_STMT(BPF_RET | BPF_A, 0),
	};
	static_assert(OG_ARRAY_LEN(program) <= OG_STEER_PROGRAM_MAX, "room for it");

	for (size_t i = 0; i < OG_ARRAY_LEN(program); i++)
		out[i] = program[i];
	return OG_ARRAY_LEN(program);
}
