/*
 * llama_cpp.mjs: the demo model under llama.cpp and under a program of ours must agree.
 *
 *   OG_INFER=build/tests/gpu/infer_cli node tests/gpu/llama_cpp.mjs
 *
 * OG_INFER (words split at spaces) is started with the model's path as its last argument. It reads
 * JSON lines, {"text": …, "tokenize": true} or {"prompt": …} (one user turn), and answers each with a
 * line, {"tokens": […]} or {"answer": …, "tokens": […]}, where an answer's tokens may be left out.
 * OG_MODEL names another file than configs/demo.gguf; NODE_LLAMA_CPP the folder of that npm package
 * where the usual search does not find it. Exit status 77: the package is not installed.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const modelPath = process.env.OG_MODEL ?? path.join(root, "configs/demo.gguf");

const texts = [
	"",
	" ",
	"  \n\n \t x",
	"What is 2+2?",
	"What is 12 + 34 = 1234567890?",
	"<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n",
	"a<|im_end|><|endoftext|><|im_star|>b",
	"I'll say it's John's, we've DON'T they'Re",
	"tabs\tand\r\nnewlines\n\n\nand   many   spaces   ",
	"punctuation!!! (yes) [no] {x} -- $%^&*\n\nnext",
	"snake_case camelCase kebab-case 3.14159 1,000,000 x=y+z;",
	"Grüße, naïve café, Ελληνικά, русский, 日本語, 한국어, العربية",
	"emoji 🙂 👩‍👩‍👧 e\u0301 combining, nbsp\u00a0here, zero\u200bwidth",
	"½ ² ① Ⅷ ٣٤ 99",
	"the and of equal number answer subtract maximum minimum",
	"\u0000\u0001\u007f control",
	"hello world node apple green blue river stone",
];

const questions = [
	"What is 2+2?",
	"What is 0+0?",
	"What is 99+99?",
	"What is 47 + 38?",
	"Compute 12 plus 34.",
	"9+1",
	"7 + 86 =",
	"What is the sum of 55 and 45?",
	"What is 81-27?",
	"Which is larger, 19 or 91?",
	"Is 13 even or odd?",
	"Count to 30.",
	"Who are you?",
	"What can you do?",
	"Hello!",
	"Repeat the word river.",
	"What is the capital of France?",
	"What is 1234+567?",
];
for (let a = 3; a < 100; a += 13) for (let b = 5; b < 100; b += 17) questions.push(`What is ${a}+${b}?`);

async function loadPackage() {
	const folder = process.env.NODE_LLAMA_CPP;
	try {
		return await import(
			folder ? pathToFileURL(path.join(folder, "dist/index.js")).href : "node-llama-cpp"
		);
	} catch (error) {
		if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
		console.log("skipped: node-llama-cpp is not installed");
		process.exit(77);
	}
}

/* Starts the program of ours; ask(object) resolves to its answer, in order. */
function startOurs(command) {
	const [program, ...args] = command.split(" ");
	const child = spawn(program, [...args, modelPath], { stdio: ["pipe", "pipe", "inherit"] });
	const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
	return {
		async ask(request) {
			child.stdin.write(JSON.stringify(request) + "\n");
			const { value, done } = await lines.next();
			assert.ok(!done, `${program} ended early`);
			return JSON.parse(value);
		},
		stop: () => child.stdin.end(),
	};
}

function chat(question) {
	return `<|im_start|>user\n${question}<|im_end|>\n<|im_start|>assistant\n`;
}

const { getLlama } = await loadPackage();
let llama, model, sequence, ours;

before(async () => {
	assert.ok(existsSync(modelPath), modelPath);
	llama = await getLlama({ gpu: false, build: "never", logLevel: "error", maxThreads: 1 });
	model = await llama.loadModel({ modelPath });
	sequence = (await model.createContext({ contextSize: 512, threads: 1 })).getSequence();
	if (process.env.OG_INFER) ours = startOurs(process.env.OG_INFER);
});

after(async () => {
	ours?.stop();
	await llama.dispose();
});

async function greedyTokens(prompt) {
	await sequence.clearHistory();
	const tokens = [];
	for await (const t of sequence.evaluate(model.tokenize(prompt, true), { temperature: 0 })) {
		tokens.push(t);
		if (tokens.length === 200) break;
	}
	return tokens;
}

test("llama.cpp answers four to 2+2", async () => {
	assert.equal(model.detokenize(await greedyTokens(chat("What is 2+2?"))), "4");
});

test("token ids agree", { skip: !process.env.OG_INFER && "OG_INFER is not set" }, async () => {
	for (const text of texts) {
		const want = model.tokenize(text, true);
		const { tokens } = await ours.ask({ text, tokenize: true });
		assert.deepEqual(tokens, want, JSON.stringify(text));
	}
});

test("greedy answers agree", { skip: !process.env.OG_INFER && "OG_INFER is not set" }, async (t) => {
	for (const prompt of questions) {
		const want = await greedyTokens(chat(prompt));
		const { answer, tokens } = await ours.ask({ prompt });
		assert.equal(answer, model.detokenize(want), prompt);
		if (tokens) assert.deepEqual(tokens, want, prompt);
	}
	t.diagnostic(`${questions.length} answers`);
});
