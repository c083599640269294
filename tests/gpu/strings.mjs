/*
 * strings.mjs: texts that tokenizers stumble over, the same on every run.
 */

/* A small generator of numbers (mulberry32). */
export function random(seed) {
	return () => {
		seed = (seed + 0x6d2b79f5) | 0;
		let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
		t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
		return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
	};
}

const pieces = [
	..."The quick brown fox isn't afraid of 3 lazy dogs we'll they'RE DON'T I'd John's".split(" "),
	..."hello world function return if(x==1){y+=2;} #include <stdio.h> def __init__(self):".split(" "),
	..."camelCase snake_case kebab-case HTTPServer XMLHttpRequest iPhone McDonald ÀÉÎ ÆØÅ".split(" "),
	..."0 7 42 123 1234 12345 1234567890 3.14159 1,000,000 1e-10 0xFF ½ ² ① Ⅷ ٣٤٥ १२३ 𝟘𝟙".split(" "),
	..."Grüße naïve café Ελληνικά ΣΊΣΥΦΟΣ русский язык українська ﬁ ﬂ ﷺ Straße İstanbul ǅ ǆ".split(" "),
	..."日本語 漢字かな交じり文 カタカナ ｶﾀｶﾅ 中文分詞 简体字 한국어 한글 각 닭 ภาษาไทย ไม่มีช่องว่าง".split(" "),
	..."العربية مرحبا بالعالم עברית שלום فارسی हिन्दी नमस्ते বাংলা தமிழ் ქართული ትግርኛ မြန်မာ ខ្មែរ".split(" "),
	..."🙂 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 1️⃣ ❤️ ☎︎ 🧑🏻‍💻 🫠 🤌🏿".split(" "),
	"e\u0301", "a\u0308\u0323", "\u1100\u1161\u11a8", "n\u0303o\u0308", "\u0041\u030a", "\u212b", "\u0344",
	"\u0f71\u0f72\u0f74", "q\u0307\u0323", "\u0958", "\u2126", "\u1e9b\u0323", "Z\u0351\u036b\u0343a\u0317\u0316l",
	" ", " ", " ", "  ", "   ", "    ", "        ", " ".repeat(17), " ".repeat(40), "\t", "\t\t", "\n", "\n\n",
	"\n\n\n", "\r\n", "\r", " \n ", "\n \n", " \t\n", "\u00a0", "\u2003", "\u3000", "\u200b", "\u200d", "\ufeff",
	"\u2028", "\u2029", "\u0085", "\u00ad", "\u000b", "\u000c", "\u0000", "\u0001", "\u001b[0m", "\u007f",
	"\u202ertl\u202c", "\u2066x\u2069", "\ufffd", "\ue000", "\u{10ffff}", "\u{e0041}", "\u{1f1e6}",
	"!", "!!!", "...", "…", "—", "--", "==", "=>", "->", "::", "/*", "*/", "//", "\\", "`", "```", "~~", "@", "#",
	"$", "%", "^", "&", "&&", "*", "(", ")", "[]", "{}", "<", ">", "|", "?", ",", ".", ";", ":", "'", '"', "''",
	"“quoted”", "«x»", "¿", "¡", "§", "€", "£", "₿", "°C", "±", "×", "∑", "∞", "√", "≠", "→", "★", "♥", "™",
	"'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "’s", "ſ", "'ſ", "K",
	"▁", "▁▁", "Ġ", "Ċ", "<0x0A>", "<0xZZ>", "<s>", "</s>", "<unk>", "<pad>", "[INST]", "<|im_start|>", "<|im_end|>",
	"<|endoftext|>", "<|eot_id|>", "<|begin_of_text|>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>",
	"<|user|>", "<|end|>", "<|assistant|>", "<think>", "</think>", "<tool_call>", "<｜User｜>", "<｜tool▁sep｜>", "<|",
	"|>", "<|im_", "a".repeat(30), "ab".repeat(40), "x".repeat(300), "日".repeat(60), "aA".repeat(50), "=".repeat(80),
	"-".repeat(33), "https://example.org/a?b=c&d=%20#e", "user@example.org", "192.168.0.1", "2024-02-29T23:59:60Z",
	"C:\\Windows\\System32", "SELECT * FROM t WHERE a='b';", "\\frac{1}{2}", "<div class=\"x\">&amp;</div>",
];

/*
 * A character of any plane, assigned in Unicode 14 or nearly so: libraries that know a later one class
 * newer characters otherwise. No surrogates.
 */
function anyChar(rand) {
	const planes = [[0x20, 0x7e], [0xa0, 0x24f], [0x250, 0x2af], [0x300, 0x36f], [0x370, 0x52f], [0x590, 0x6ff],
		[0x900, 0xdff], [0xe00, 0xeff], [0x1000, 0x109f], [0x1100, 0x11ff], [0x1e00, 0x1fff], [0x2000, 0x2bff],
		[0x3000, 0x30ff], [0x3400, 0x9fff], [0xac00, 0xd7a3], [0xfb00, 0xfdff], [0xfe00, 0xffef], [0x10000, 0x103ff],
		[0x1d400, 0x1d7ff], [0x1f300, 0x1f9ff], [0x20000, 0x2a6df]];
	const [low, high] = planes[Math.floor(rand() * planes.length)];
	return String.fromCodePoint(low + Math.floor(rand() * (high - low + 1)));
}

export function makeStrings(count, seed = 1) {
	const rand = random(seed);
	const out = new Set(["", " ", "  ", "\n", "a", "\u0301", ...pieces]);
	while (out.size < count) {
		const parts = [];
		for (let n = 1 + Math.floor(rand() * 12); n > 0; n--) {
			const kind = rand();
			if (kind < 0.8) parts.push(pieces[Math.floor(rand() * pieces.length)]);
			else parts.push(anyChar(rand));
			if (rand() < 0.4) parts.push(" ");
		}
		out.add(parts.join(""));
	}
	return [...out].slice(0, Math.max(count, pieces.length));
}
