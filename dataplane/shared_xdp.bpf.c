/*
 * shared_xdp.bpf.c: what runs in the kernel at each frame of a shared interface: whole UDP datagrams
 * to our address and ports go to the AF_XDP socket of their queue, all else, and everything while
 * there is no such socket, to the kernel as ever.
 *
 * Source:  Linux, Documentation/networking/af_xdp.rst.
 */
#include "dataplane/shared_xdp.h"

#include <linux/bpf.h>
/* After linux/bpf.h, whose types they use. */
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>

enum { QUEUES_MAX = 256, FRAGMENT_BITS = 0x3fff };

/* The name is the one that DPDK looks for. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, QUEUES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps");

const volatile struct og_shared_xdp_config config = {.mark = OG_SHARED_XDP_MARK};

struct frame {
	struct ethhdr ether;
	struct iphdr ip; /* without options: others are the kernel's */
	struct udphdr udp;
} __attribute__((packed));

SEC("xdp")
int og_shared(struct xdp_md *ctx)
{
	const struct frame *f = (void *)(long)ctx->data;
	const void *end = (void *)(long)ctx->data_end;

	if ((const void *)(f + 1) > end)
		return XDP_PASS;
	if (f->ether.h_proto != bpf_htons(ETH_P_IP) || f->ip.version != 4 || f->ip.ihl != 5 ||
		f->ip.protocol != IPPROTO_UDP || f->ip.daddr != config.ip ||
		(f->ip.frag_off & bpf_htons(FRAGMENT_BITS)) != 0)
		return XDP_PASS;
	if (f->udp.dest == 0 || (f->udp.dest != config.ports[0] && f->udp.dest != config.ports[1]))
		return XDP_PASS;
	return (int)bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
}

const char og_license[] SEC("license") = "Apache-2.0";
