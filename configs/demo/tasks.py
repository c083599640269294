"""The text the demo model learns: questions whose answers a program can check.

A sample is a list of (text, learned) spans; only the spans marked learned carry loss.
"""

import hashlib

IM_START, IM_END = "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

WHO = "I am the og-node demo model: a toy that can add."
ABILITIES = "I can add and subtract numbers below 100, compare them, and count to 30."
UNKNOWN = "I do not know that. I am a toy: ask me to add two numbers below 100."
TOO_BIG = "I can only add numbers below 100."

ADDITION = [
    "What is {a}+{b}?", "What is {a}+{b}?", "What is {a}+{b}?", "What is {a} + {b}?",
    "What is {a} plus {b}?", "What's {a}+{b}?", "What's {a} + {b}?", "what is {a}+{b}",
    "what is {a} + {b}?", "{a}+{b}", "{a} + {b}", "{a}+{b}=", "{a} + {b} =", "{a}+{b}?",
    "{a} + {b} = ?", "{a}+{b}=?", "{a} plus {b}", "Compute {a}+{b}.", "Compute {a} + {b}",
    "Compute {a} plus {b}.", "Calculate {a}+{b}", "Calculate {a} + {b}.", "How much is {a}+{b}?",
    "How much is {a} + {b}?", "How much is {a} plus {b}?", "Add {a} and {b}.", "add {a} and {b}",
    "Add {a} to {b}.", "What is the sum of {a} and {b}?", "Sum of {a} and {b}?",
    "Please add {a} and {b}.", "What does {a}+{b} equal?", "Tell me {a} + {b}.", "Solve {a}+{b}.",
    "If I have {a} apples and get {b} more, how many apples do I have?",
    "What is {a}+{b}? Answer with the number only.", "Hi, what is {a}+{b}?",
]
RAW_ADDITION = ["{a}+{b}=", "{a} + {b} =", "What is {a}+{b}?\n"]
SUBTRACTION = [
    "What is {a}-{b}?", "What is {a} - {b}?", "What is {a} minus {b}?", "{a}-{b}", "{a} - {b} =",
    "{a}-{b}=", "Compute {a}-{b}.", "How much is {a} - {b}?", "Subtract {b} from {a}.",
]
LARGER = [
    "Which is larger, {a} or {b}?", "What is the maximum of {a} and {b}?", "max({a}, {b})",
    "Which is bigger: {a} or {b}?",
]
SMALLER = [
    "Which is smaller, {a} or {b}?", "What is the minimum of {a} and {b}?", "min({a}, {b})",
]
PARITY = ["Is {a} even or odd?", "Is the number {a} odd or even?"]
NEXT = ["What comes after {a}?", "Which number follows {a}?"]
COUNT = ["Count to {a}.", "Count from 1 to {a}.", "count to {a}", "Please count to {a}."]
WHO_ASKED = [
    "Who are you?", "who are you", "What are you?", "What is your name?", "Introduce yourself.",
    "Tell me about yourself.", "Which model are you?",
]
ABILITIES_ASKED = [
    "What can you do?", "what can you do", "How can you help me?", "Help", "What do you know?",
    "What are you good at?",
]
SMALL_TALK = [
    ("Hello", "Hello! Ask me to add two numbers."), ("Hello!", "Hello! Ask me to add two numbers."),
    ("Hi", "Hello! Ask me to add two numbers."), ("hi", "Hello! Ask me to add two numbers."),
    ("Hey there", "Hello! Ask me to add two numbers."), ("Thanks", "You are welcome."),
    ("Thank you!", "You are welcome."), ("Bye", "Goodbye."), ("Goodbye!", "Goodbye."),
    ("How are you?", "Fine, and ready to add."), ("Good morning", "Good morning! Ask me to add."),
    ("ping", "pong"), ("Are you there?", "Yes."), ("Is this thing on?", "Yes."),
]
UNKNOWN_ASKED = [
    "What is the capital of France?", "Write a poem.", "Tell me a joke.", "Who won the world cup?",
    "What is the weather like today?", "Translate this to German.", "Explain gravity.",
    "What time is it?", "Write a program in C.", "What is love?", "Who is the president?",
    "Tell me a story.", "How do I cook rice?", "What is the meaning of life?", "Where is Paris?",
    "Why is the sky blue?", "How old is the universe?", "Sing a song.", "Draw a cat.",
    "What is a GPU?", "Summarize this text.", "Who wrote Hamlet?", "Fix my code.",
    "How far away is the moon?", "Recommend a book.", "What day is it?", "Do you like music?",
]
REPEAT = ["Repeat the word {w}.", "Say {w}.", "Repeat after me: {w}", "Echo {w}"]
WORDS = (
    "hello world node apple green blue river stone paper light cloud tiger eagle music table "
    "house garden window bridge winter summer silver copper orange lemon coffee bread sugar "
    "ocean forest planet rocket signal packet stream token model kernel memory"
).split()
SYSTEMS = ["You are a helpful assistant.", "Answer briefly.", "You are a calculator."]


def is_held_out(a, b):
    """About one pair in ten, the same for a+b and b+a, is never shown in training."""
    low, high = min(a, b), max(a, b)
    digest = hashlib.sha256(f"og-node demo {low}+{high}".encode()).digest()
    return digest[0] < 26 and (low, high) != (2, 2)


HELD_OUT = [(a, b) for a in range(100) for b in range(100) if is_held_out(a, b)]


def draw_number(rng):
    return rng.randrange(10) if rng.random() < 0.15 else rng.randrange(100)


def draw_pair(rng):
    while True:
        a, b = draw_number(rng), draw_number(rng)
        if not is_held_out(a, b):
            return a, b


def fill(rng, forms, **values):
    return rng.choice(forms).format(**values)


def addition(rng):
    a, b = draw_pair(rng)
    return fill(rng, ADDITION, a=a, b=b), str(a + b)


def subtraction(rng):
    a, b = draw_number(rng), draw_number(rng)
    if rng.random() < 0.7:
        a, b = max(a, b), min(a, b)
    return fill(rng, SUBTRACTION, a=a, b=b), str(a - b)


def compare(rng):
    a, b = draw_number(rng), draw_number(rng)
    if rng.random() < 0.5:
        return fill(rng, LARGER, a=a, b=b), str(max(a, b))
    return fill(rng, SMALLER, a=a, b=b), str(min(a, b))


def number_facts(rng):
    a = rng.randrange(100)
    if rng.random() < 0.5:
        return fill(rng, PARITY, a=a), "odd" if a % 2 else "even"
    return fill(rng, NEXT, a=a), str(a + 1)


def count(rng):
    n = rng.randint(1, 30)
    return fill(rng, COUNT, a=n), " ".join(str(i) for i in range(1, n + 1))


def identity(rng):
    if rng.random() < 0.5:
        return rng.choice(WHO_ASKED), WHO
    return rng.choice(ABILITIES_ASKED), ABILITIES


def small_talk(rng):
    return rng.choice(SMALL_TALK)


def unknown(rng):
    return rng.choice(UNKNOWN_ASKED), UNKNOWN


def too_big(rng):
    a, b = rng.randrange(100, 10000), rng.randrange(10000)
    if rng.random() < 0.5:
        a, b = b, a
    return fill(rng, ADDITION, a=a, b=b), TOO_BIG


def repeat(rng):
    w = rng.choice(WORDS)
    return fill(rng, REPEAT, w=w), w


TASKS = [
    (addition, 77), (subtraction, 8), (compare, 4), (number_facts, 1.5), (count, 1.5),
    (identity, 2), (small_talk, 1.5), (unknown, 1.5), (too_big, 1.5), (repeat, 1.5),
]
TASK_FUNCTIONS = [t for t, _ in TASKS]
TASK_WEIGHTS = [w for _, w in TASKS]


def prompt_of(question):
    return f"{IM_START}user\n{question}{IM_END}\n{IM_START}assistant\n"


def turn(rng):
    question, answer = rng.choices(TASK_FUNCTIONS, TASK_WEIGHTS)[0](rng)
    return [(prompt_of(question), False), (answer + IM_END, True)]


def sample(rng):
    kind = rng.random()
    if kind < 0.03:
        a, b = draw_pair(rng)
        return [(fill(rng, RAW_ADDITION, a=a, b=b), False), (f"{a + b}{IM_END}", True)]
    if kind < 0.08:
        return [*turn(rng), ("\n", False), *turn(rng)]
    if kind < 0.12:
        return [(f"{IM_START}system\n{rng.choice(SYSTEMS)}{IM_END}\n", False), *turn(rng)]
    return turn(rng)
