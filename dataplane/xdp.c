#include "dataplane/xdp.h"

#include <errno.h>

#ifdef OG_XDP
#include "dataplane/shared_xdp.h"
#include "shared_xdp_object.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char program_name[] = "og_shared";

bool og_xdp_built(void)
{
	return true;
}

static void configure(struct og_shared_xdp_config *c, const struct og_addr *at, uint16_t nb)
{
	memcpy(&c->ip, at[0].ip, sizeof(c->ip));
	for (uint16_t i = 0; i < nb; i++)
		c->ports[i] = htons(at[i].port);
}

int og_xdp_open(const struct og_addr *at, uint16_t nb)
{
	uint8_t object[sizeof(og_shared_xdp_object)];
	struct og_shared_xdp_config c = {.mark = OG_SHARED_XDP_MARK};
	uint8_t *place;
	int fd, ret;

	if (nb == 0 || nb > OG_SHARED_XDP_PORTS)
		return -EINVAL;
	memcpy(object, og_shared_xdp_object, sizeof(object));
	place = memmem(object, sizeof(object), c.mark, sizeof(c.mark));
	OG_ASSERT(place && place + sizeof(c) <= object + sizeof(object));
	configure(&c, at, nb);
	memcpy(place, &c, sizeof(c));
	fd = memfd_create(program_name, MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, object, sizeof(object)) == (ssize_t)sizeof(object))
		return fd;
	ret = errno != 0 ? -errno : -EIO;
	close(fd);
	return ret;
}

int og_xdp_clean(unsigned if_index)
{
	struct bpf_prog_info info = {0};
	uint32_t id = 0, len = sizeof(info);
	int fd, ret = bpf_xdp_query_id((int)if_index, 0, &id);

	if (ret < 0 || id == 0)
		return ret;
	fd = bpf_prog_get_fd_by_id(id);
	if (fd < 0)
		return -errno;
	ret = bpf_obj_get_info_by_fd(fd, &info, &len);
	close(fd);
	if (ret < 0)
		return -errno;
	if (strcmp(info.name, program_name) != 0)
		return -EBUSY;
	return bpf_xdp_detach((int)if_index, 0, NULL);
}

#else

bool og_xdp_built(void)
{
	return false;
}

int og_xdp_open(const struct og_addr *at, uint16_t nb)
{
	(void)at;
	(void)nb;
	return -EOPNOTSUPP;
}

int og_xdp_clean(unsigned if_index)
{
	(void)if_index;
	return 0;
}

#endif
