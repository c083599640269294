#!/usr/bin/env python3
"""lint.py: the rules of the tree that a machine can check.

Format (clang-format), who may include whom, no call on the polling path that blocks, allocates or
logs, spelling, and nothing in the tree that names a place outside it. Prints file:line: what.
"""
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# folder -> folders it may include from; see the map of the tree in README.md.
SEES = {
    'base': {'base'},
    'crypto': {'base', 'crypto'},
    'transport': {'base', 'crypto', 'transport'},
    'dht': {'base', 'crypto', 'dht'},
    'cluster': {'base', 'crypto', 'transport', 'dht', 'cluster'},
    'gpu': {'base', 'gpu'},
    'dataplane': {'base', 'dataplane'},
    'cli': {'base', 'crypto', 'transport', 'dht', 'cluster', 'gpu', 'dataplane', 'cli'},
    'bench': {'base', 'crypto', 'transport', 'dht', 'cluster', 'gpu', 'dataplane', 'bench'},
}
FOLDERS = set(SEES) | {'tests'}

# Modules that run on a polling core: no libc call there may wait, allocate or print.
POLLING = ('transport/', 'dht/', 'cluster/core', 'cluster/peers', 'cluster/swarm', 'cluster/outbox', 'cluster/far', 'cluster/steer',
           'cluster/stream_core',
           'dataplane/lcore', 'dataplane/inet', 'dataplane/handover', 'dataplane/neigh', 'dataplane/port_ethdev_first')
ALLOCATES = re.compile(r'\b(malloc|calloc|realloc|free|rte_malloc|rte_zmalloc|mmap|strdup)\s*\(')
BLOCKS = re.compile(r'\b(sleep|usleep|nanosleep|pthread_mutex_lock|pthread_cond_wait|printf|fprintf|'
                    r'open|fopen|read|write|system|exit|clock_gettime|time|rand|getrandom|OG_LOG)\s*\(')
# Functions that run before the polling starts or after it ends.
START = re.compile(r'_(create|destroy|init|fini|open|close|start|stop|launch|register|log)$|^(create|destroy|init|fini)_|'
                   r'_(create|init)_|^(main|thread_main|allocate|shelf_with_payload|send_the_rest)$')
# Where this checkout happens to lie, and where a package once came from.
OUTSIDE = re.compile(re.escape(ROOT + os.sep) + r'|"resolved": "http')


def sources(*suffixes):
    out = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], cwd=ROOT,
                         capture_output=True, text=True, check=True).stdout.split('\n')
    return [f for f in out if f.endswith(suffixes) and os.path.exists(os.path.join(ROOT, f))]


def report(problems, path, line, text):
    problems.append(f'{path}:{line}: {text}')


def check_format(problems, files):
    tool = shutil.which('clang-format-14') or shutil.which('clang-format')
    if not tool:
        print('lint: no clang-format here, format not checked')
        return
    done = subprocess.run([tool, '--dry-run', '--Werror', *files], cwd=ROOT, capture_output=True, text=True)
    seen = set()
    for m in re.finditer(r'^(\S+?):(\d+):\d+: error', done.stderr, re.M):
        if m[1] not in seen:
            seen.add(m[1])
            report(problems, m[1], m[2], 'not formatted (clang-format -i)')


def check_includes(problems, path, lines):
    folder = path.split('/')[0]
    if folder not in SEES:
        return
    for n, line in enumerate(lines, 1):
        m = re.match(r'#include "(\w+)/', line)
        if m and m[1] in FOLDERS and m[1] not in SEES[folder]:
            report(problems, path, n, f'{folder}/ may not see {m[1]}/')


def check_polling(problems, path, lines):
    if not path.startswith(POLLING) or path.endswith('.h'):
        return
    function = ''
    comment = False
    for n, line in enumerate(lines, 1):
        m = re.match(r'(?:\w[\w\s\*]*?[\s\*])(\w+)\(', line)
        if m and not line.rstrip().endswith(';'):
            function = m[1]
        if '/*' in line:
            comment = True
        if not comment and not START.search(function):
            code = re.sub(r'"[^"]*"', '""', line)
            for rule, what in ((ALLOCATES, 'allocates'), (BLOCKS, 'may block or print')):
                hit = rule.search(code)
                if hit and m is None:
                    report(problems, path, n, f'{hit[1]}() {what} on the polling path (in {function})')
        if '*/' in line:
            comment = False


def check_text(problems, path, lines):
    for n, line in enumerate(lines, 1):
        if path != 'tests/lint.py' and OUTSIDE.search(line):
            report(problems, path, n, 'names a place outside the tree')
        if re.search(r'[ \t]+$', line) and not path.endswith('.md'):
            report(problems, path, n, 'trailing white space')


def check_spelling(problems, files):
    tool = shutil.which('codespell')
    if not tool:
        print('lint: no codespell here, spelling not checked')
        return
    done = subprocess.run([tool, '-L', 'tha,ans,ned,ser,hel,inout,fo,nd,ist,numer,crate,te,dout,ue,wont,mis,parth,wit,ba,keypair,keypairs,bootsrap', *files], cwd=ROOT,
                          capture_output=True, text=True)
    problems += [l for l in done.stdout.split('\n') if l.strip()]


def main():
    problems = []
    code = sources('.c', '.h')
    text = sources('.c', '.h', '.cu', '.cuh', '.md', '.sh', '.py', '.mjs', '.build', '.conf', '.service', '.txt')
    check_format(problems, code)
    for path in text:
        with open(os.path.join(ROOT, path), encoding='utf-8') as f:
            lines = f.read().split('\n')
        if path in code:
            check_includes(problems, path, lines)
            check_polling(problems, path, lines)
        check_text(problems, path, lines)
    check_spelling(problems, [f for f in text if 'vectors' not in f])
    print('\n'.join(problems) if problems else f'lint: {len(text)} files, nothing to say')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
