/*
 * cpu_speed.mjs: the CPU back end against llama.cpp: same file, same threads, in turns.
 *
 *   node tests/gpu/cpu_speed.mjs [--type BF16,Q8_0,Q4_0] [--threads 1,2] [--what decode,prefill,batch]
 *        [--repeats 9] [--tokens 24] [--prompt 512] [--dir FOLDER] [--build build]
 *
 * Models have TinyLlama 1.1B's shape and random weights; they are made in FOLDER (default: a new one
 * below the temporary folder, removed afterwards) unless they lie there already. Prints one JSON object
 * a line, as og-bench does: the median of ours in tokens/s, its ratio to llama.cpp's, and for decoding
 * the share of the memory's bandwidth, measured in the same turns over the same weights. `batch` is eight
 * requests at once, in tokens/s of all, with its ratio to one request. By hand, on a quiet machine.
 * NODE_LLAMA_CPP: the folder of the npm package where the usual search does not find it. Exit status 77:
 * the package is not installed.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { pathToFileURL } from "node:url";

const { values: args } = parseArgs({
	options: {
		type: { type: "string", default: "BF16,Q8_0,Q4_0" },
		threads: { type: "string", default: "1,2" },
		what: { type: "string", default: "decode,prefill,batch" },
		repeats: { type: "string", default: "9" },
		tokens: { type: "string", default: "24" },
		prompt: { type: "string", default: "512" },
		dir: { type: "string" },
		build: { type: "string", default: "build" },
	},
});
const program = path.join(args.build, "tests/gpu/cpu_speed");
const tokens = Number(args.tokens), promptTokens = Number(args.prompt), together = 8;

async function loadPackage() {
	const folder = process.env.NODE_LLAMA_CPP;
	try {
		return await import(folder ? pathToFileURL(path.join(folder, "dist/index.js")).href : "node-llama-cpp");
	} catch (error) {
		if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
		console.log("skipped: node-llama-cpp is not installed");
		process.exit(77);
	}
}

/* Starts the program of ours; ask(object) resolves to its answer, in order. */
function startOurs(model) {
	const child = spawn(program, [model], { stdio: ["pipe", "pipe", "inherit"] });
	const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
	return {
		async ask(request) {
			child.stdin.write(JSON.stringify(request) + "\n");
			const { value, done } = await lines.next();
			if (done) throw new Error("cpu_speed ended early");
			const answer = JSON.parse(value);
			if (answer.error) throw new Error(answer.error);
			return answer;
		},
		stop: () => child.stdin.end(),
	};
}

/* llama.cpp without what node-llama-cpp does between two passes: ask() answers like ours. */
async function startTheirs(llama, modelPath) {
	const model = await llama.loadModel({ modelPath });
	const context = await model.createContext({
		contextSize: promptTokens + 64, batchSize: promptTokens, sequences: together, threads: 2,
	});
	const binding = context._ctx, vocab = 32000;
	const pass = async (from, count, sequences) => {
		binding.initBatch(count * sequences);
		for (let s = 0; s < sequences; s++) {
			const row = Uint32Array.from({ length: count }, (_, i) => (s * 131 + (from + i) * 7919) % vocab);
			binding.addToBatch(s, from, row, Uint32Array.of(count - 1));
		}
		await binding.decodeBatch();
	};
	return {
		async ask({ threads, prefill, decode, batch = 1 }) {
			binding.setThreads(threads);
			for (let s = 0; s < together; s++) binding.disposeSequence(s);
			const start = performance.now();
			if (prefill) await pass(0, prefill, 1);
			for (let i = 0; i < (decode ?? 0); i++) await pass(i, 1, batch);
			return { seconds: (performance.now() - start) / 1000 };
		},
		async stop() {
			await context.dispose();
			await model.dispose();
		},
	};
}

const sorted = (list) => [...list].sort((a, b) => a - b);
const median = (list) => sorted(list)[Math.floor(list.length / 2)];
const round = (x) => Number(x.toPrecision(4));

function report(name, ours, theirs, more = {}) {
	console.log(JSON.stringify({
		bench: "cpu_speed", case: name, median: round(median(ours)), unit: "tokens/s",
		p95: round(sorted(ours)[Math.floor(ours.length * 0.05)]), runs: ours.length, ref: "llama.cpp",
		ref_median: round(median(theirs)), ratio: round(median(ours) / median(theirs)), ...more,
		machine: cpus()[0].model,
	}));
}

/* Every program once, in turn, as often as asked for; the first turn only warms up. */
async function turns(programs) {
	const out = programs.map(() => []);
	for (let i = 0; i <= Number(args.repeats); i++)
		for (const [j, run] of programs.entries()) {
			const rate = await run();
			if (i > 0) out[j].push(rate);
		}
	return out;
}

async function compareDecode(name, threads, ours, theirs, weightBytes) {
	const decode = { threads, decode: tokens };
	const [reading, mine, others] = await turns([
		async () => { const r = await ours.ask({ threads, bandwidth: true }); return r.bytes / r.seconds; },
		async () => tokens / (await ours.ask(decode)).seconds,
		async () => tokens / (await theirs.ask(decode)).seconds,
	]);
	/* Turn by turn: what else the machine's memory is busy with comes and goes. */
	const share = (rates) => round(median(rates.map((r, i) => (r * weightBytes) / reading[i])));
	report(`${name}: decode, ${threads} threads`, mine, others, {
		share: share(mine), ref_share: share(others), gb_per_s: round(median(reading) / 1e9),
	});
}

async function comparePrefill(name, threads, ours, theirs) {
	const prefill = { threads, prefill: promptTokens };
	const [mine, others] = await turns([
		async () => promptTokens / (await ours.ask(prefill)).seconds,
		async () => promptTokens / (await theirs.ask(prefill)).seconds,
	]);
	report(`${name}: prefill of ${promptTokens}, ${threads} threads`, mine, others);
}

async function compareBatch(name, threads, ours, theirs) {
	const one = { threads, decode: tokens }, many = { ...one, batch: together };
	const [single, mine, others] = await turns([
		async () => tokens / (await ours.ask(one)).seconds,
		async () => (together * tokens) / (await ours.ask(many)).seconds,
		async () => (together * tokens) / (await theirs.ask(many)).seconds,
	]);
	report(`${name}: ${together} requests, ${threads} threads`, mine, others,
		{ over_one: round(median(mine) / median(single)) });
}

/* What one token streams: all weights but the embedding, of which it reads one row. */
function bytesPerToken(type) {
	const perValue = { BF16: 2, F16: 2, Q8_0: 34 / 32, Q4_0: 18 / 32 }[type];
	return perValue * (22 * (2048 * (2048 * 2 + 256 * 2) + 3 * 2048 * 5632) + 2048 * 32000);
}

const { getLlama } = await loadPackage();
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
const dir = args.dir ?? mkdtempSync(path.join(tmpdir(), "og-cpu-speed-"));
try {
	for (const type of args.type.split(",")) {
		const model = path.join(dir, `${type}.gguf`);
		if (!existsSync(model)) execFileSync(program, ["--make", type, model]);
		const ours = startOurs(model), theirs = await startTheirs(llama, model);
		try {
			for (const threads of args.threads.split(",").map(Number))
				for (const what of args.what.split(",")) {
					if (what === "decode")
						await compareDecode(type, threads, ours, theirs, bytesPerToken(type));
					if (what === "prefill") await comparePrefill(type, threads, ours, theirs);
					if (what === "batch") await compareBatch(type, threads, ours, theirs);
				}
		} finally {
			ours.stop();
			await theirs.stop();
		}
	}
} finally {
	if (!args.dir) rmSync(dir, { recursive: true });
	await llama.dispose();
}
