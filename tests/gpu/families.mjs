/*
 * families.mjs: tiny models of every family under llama.cpp and under ours must agree.
 *
 *   OG_LOGITS=build/tests/gpu/logits_cli OG_TINY=build/tests/gpu/tiny_models node tests/gpu/families.mjs
 *
 * For each family and type of weights: the log-probabilities of every position of a prompt, and greedy
 * tokens up to the first near-tie. OG_TYPES (words) names other types than F32 and Q4_K, OG_ALL takes all; OG_KEEP a folder for the
 * models. NODE_LLAMA_CPP: the folder of the npm package where the usual search does not find it.
 * Exit status 77: the package is not installed.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { pathToFileURL } from "node:url";

const allTypes = "F32 F16 BF16 Q8_0 Q4_0 Q4_K Q5_K Q6_K";
const types = (process.env.OG_TYPES ?? (process.env.OG_ALL ? allTypes : "F32 Q4_K")).split(" ");
const promptTokens = 40;
const greedyTokens = 48;
const nearTie = 6; // in units of what llama.cpp's rounding moves a logit

/* Root mean square differences of log-probabilities from the reference in fp32. */
const exactLimit = 2e-3; // llama.cpp with fp32 weights and cache; Gemma's GELU is a table of fp16 there
const roundingRatio = 1.25; // ours over llama.cpp's with the same weights and an fp16 cache
const sameWithin = 3e-3; // where both round little, the ratio says nothing

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
function startOurs(model, ...args) {
	const child = spawn(process.env.OG_LOGITS, [model, ...args], { stdio: ["pipe", "pipe", "inherit"] });
	const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
	return {
		async ask(request) {
			child.stdin.write(JSON.stringify(request) + "\n");
			const { value, done } = await lines.next();
			assert.ok(!done, "logits_cli ended early");
			return JSON.parse(value);
		},
		stop: () => child.stdin.end(),
	};
}

function logProbabilities(logits) {
	const max = Math.max(...logits);
	const sum = logits.reduce((s, x) => s + Math.exp(x - max), 0);
	return logits.map((x) => x - max - Math.log(sum));
}

function rms(a, b) {
	let sum = 0, n = 0;
	for (let i = 0; i < a.length; i++)
		for (let j = 0; j < a[i].length; j++) {
			// a probability that rounds to zero has no logarithm
			if (!Number.isFinite(a[i][j]) || !Number.isFinite(b[i][j])) continue;
			sum += (a[i][j] - b[i][j]) ** 2;
			n++;
		}
	return Math.sqrt(sum / n);
}

const { getLlama } = await loadPackage();
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error", maxThreads: 1 });
const folder = process.env.OG_KEEP ?? mkdtempSync(path.join(tmpdir(), "og-families-"));
const prompt = Array.from({ length: promptTokens }, (_, i) => (i * i * 7 + i * 31 + 5) % 256);

after(async () => {
	await llama.dispose();
	if (!process.env.OG_KEEP) rmSync(folder, { recursive: true });
});

async function theirLogProbabilities(sequence, vocab) {
	await sequence.clearHistory();
	const options = { temperature: 1, topK: 0, topP: 1, minP: 0 };
	const out = await sequence.controlledEvaluate(
		prompt.map((t) => [t, { generateNext: { probabilities: true, options } }])
	);
	return out.map((o) => {
		const row = new Array(vocab).fill(-Infinity);
		for (const [token, p] of o.next.probabilities) row[token] = Math.log(p);
		return row;
	});
}

async function theirGreedy(sequence) {
	await sequence.clearHistory();
	const tokens = [];
	for await (const t of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
		tokens.push(t);
		if (tokens.length === greedyTokens) break;
	}
	return tokens;
}

/* cache: the type of llama.cpp's keys and values. */
async function theirs(model, cache, vocab) {
	const context = await model.createContext({
		contextSize: 512, threads: 1, swaFullCache: true, flashAttention: false,
		experimentalKvCacheKeyType: cache, experimentalKvCacheValueType: cache,
	});
	const sequence = context.getSequence();
	const logp = await theirLogProbabilities(sequence, vocab);
	const greedy = await theirGreedy(sequence);
	await context.dispose();
	return { logp, greedy };
}

async function compare(file, type, t) {
	const model = await llama.loadModel({ modelPath: file });
	const ours = startOurs(file), reference = startOurs(file, "ref");
	try {
		const exact = (await reference.ask({ tokens: prompt })).logits.map(logProbabilities);
		const mine = (await ours.ask({ tokens: prompt })).logits.map(logProbabilities);
		const { tokens, margins } = await ours.ask({ tokens: prompt, greedy: greedyTokens });
		const plain = await theirs(model, "F32", mine[0].length);
		const half = await theirs(model, "F16", mine[0].length);
		const off = { ours: rms(mine, exact), plain: rms(plain.logp, exact), half: rms(half.logp, exact) };
		let same = 0;
		while (same < tokens.length && tokens[same] === half.greedy[same]) same++;
		t.diagnostic(
			`${path.basename(file, ".gguf")} ${type}: off the reference: ours ${off.ours.toExponential(2)}, ` +
			`llama.cpp ${off.half.toExponential(2)}, with fp32 cache ${off.plain.toExponential(2)}; ` +
			`greedy ${same} of ${tokens.length} equal` +
			(same < tokens.length ? `, margin there ${margins[same].toFixed(3)}` : "")
		);
		if (type === "F32") assert.ok(off.plain < exactLimit, "llama.cpp computes something else");
		assert.ok(off.ours < Math.max(roundingRatio * off.half, sameWithin), "ours rounds more than llama.cpp");
		if (same < tokens.length)
			assert.ok(margins[same] < nearTie * off.half, `token ${same} differs by no near-tie`);
	} finally {
		ours.stop();
		reference.stop();
		await model.dispose();
	}
}

for (const type of types) {
	const at = path.join(folder, type);
	execFileSync(process.env.OG_TINY, [at, type]);
	for (const name of readdirSync(at).filter((f) => f.endsWith(".gguf")).sort())
		test(`${name} ${type}`, (t) => compare(path.join(at, name), type, t));
}
