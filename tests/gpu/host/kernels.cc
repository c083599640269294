/* kernels.cc: the kernels of the product, compiled for the host, by name. */
#include "gpu/cuda/kernels.cu"

#include "tests/gpu/host/kernels.h"

extern "C" {
#include "gpu/cuda/device.h"
}

#include <tuple>

namespace
{

template <auto KERNEL> struct caller;

template <class... ARGS, void (*KERNEL)(ARGS...)> struct caller<KERNEL> {
	static std::tuple<ARGS...> args;

	template <size_t... I> static void take_each(void **params, std::index_sequence<I...>)
	{
		(memcpy(&std::get<I>(args), params[I], sizeof(std::get<I>(args))), ...);
	}

	static void take(void **params)
	{
		take_each(params, std::index_sequence_for<ARGS...>());
	}

	static void **keep(void **params)
	{
		constexpr size_t n = sizeof...(ARGS), sizes[] = {sizeof(ARGS)...};
		size_t bytes = n * sizeof(void *), i = 0;
		void **copy;

		for (size_t size : sizes)
			bytes += size;
		copy = static_cast<void **>(malloc(bytes));
		char *at = reinterpret_cast<char *>(copy + n);
		for (size_t size : sizes) {
			copy[i] = at;
			memcpy(at, params[i++], size);
			at += size;
		}
		return copy;
	}

	static void run(const void *)
	{
		std::apply(KERNEL, args);
	}
};

template <class... ARGS, void (*KERNEL)(ARGS...)>
std::tuple<ARGS...> caller<KERNEL>::args;

#define OG_HOST_KERNEL(name) {#name, caller<name>::take, caller<name>::keep, caller<name>::run},
const struct og_host_kernel kernels[] = {OG_CUDA_KERNELS(OG_HOST_KERNEL)};

} // namespace

extern "C" const struct og_host_kernel *og_host_find(const char *name)
{
	for (const auto &k : kernels)
		if (strcmp(k.name, name) == 0)
			return &k;
	return nullptr;
}
