/*
 * reference.mjs: where the packages of tests/gpu/package.json are, and text_cli as a child.
 *
 * OG_GPU_MODULES names another node_modules. Without one the test that asks ends with status 77.
 */
import { spawn, execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
export const root = path.resolve(here, "../..");
export const modules = process.env.OG_GPU_MODULES ?? path.join(here, "node_modules");

export function needPackages() {
	if (existsSync(path.join(modules, "node-llama-cpp"))) return;
	console.log("skipped: the packages of tests/gpu are not installed (configs/deps.sh test)");
	process.exit(77);
}

/* llama.cpp's own test files lie in the package as a git bundle: unpacked below $TMPDIR. */
export function unpackLlamaCpp() {
	const folder = mkdtempSync(path.join(tmpdir(), "og-llama-cpp-"));
	process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
	const bundle = path.join(modules, "node-llama-cpp/llama/gitRelease.bundle");
	execFileSync("git", ["clone", "--quiet", "--no-checkout", bundle, folder], { stdio: "ignore" });
	execFileSync("git", ["-C", folder, "checkout", "--quiet", "HEAD", "--", "models"], { stdio: "ignore" });
	return path.join(folder, "models");
}

/* text_cli with that model; ask(request) resolves to its reply, in order. */
export function startText(model = "") {
	const program = process.env.OG_TEXT_CLI ?? path.resolve(root, process.env.OG_BUILD ?? "build", "tests/gpu/text_cli");
	const child = spawn(program, [model], { stdio: ["pipe", "pipe", "inherit"] });
	const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
	return {
		async ask(request) {
			child.stdin.write(JSON.stringify(request) + "\n");
			const { value, done } = await lines.next();
			if (done) throw new Error(`${program} ended early`);
			return JSON.parse(value);
		},
		stop: () => child.stdin.end(),
	};
}
