#!/usr/bin/env python3
"""metrics_lint.py: what /metrics serves is well-formed, and alerts and dashboard use only that.

    metrics_lint.py METRICS_TEXT [FILE ...]

Rules of the text exposition format 0.0.4 and of `promtool check metrics`: HELP and TYPE once and before
the samples, samples of one name together, counters end in _total, base units only, histograms whole and
cumulative, no sample twice. Every og_ name in the further files must be among the samples.
"""
import re
import sys

SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
NOT_BASE = re.compile(r'_(ns|us|ms|msec|sec|nanoseconds|microseconds|milliseconds|minutes|hours|kb|mb|kib|mib|'
                      r'kilobytes|megabytes|bits)(_total)?$')


def family(name, types):
    for suffix in ('_bucket', '_sum', '_count'):
        if name.endswith(suffix) and types.get(name[:-len(suffix)]) == 'histogram':
            return name[:-len(suffix)]
    return name


def read_labels(text, where, problems):
    labels, rest = [], text or ''
    while rest:
        m = LABEL.match(rest)
        if not m:
            problems.append(f'{where}: labels {text!r}')
            return ()
        labels.append((m[1], m[2]))
        rest = rest[m.end():]
    if len({k for k, _ in labels}) != len(labels):
        problems.append(f'{where}: a label is given twice')
    return tuple(sorted(labels))


def check_names(types, helps, problems):
    for name, kind in types.items():
        if name not in helps:
            problems.append(f'{name}: no HELP')
        if not re.match(r'og_[a-z0-9]+_[a-z0-9_]+$', name):
            problems.append(f'{name}: not og_<module>_<what>')
        if (kind == 'counter') != name.endswith('_total'):
            problems.append(f'{name}: a {kind}' + (' ends in _total' if kind == 'counter' else ' does not end in _total'))
        if NOT_BASE.search(name):
            problems.append(f'{name}: not in a base unit (seconds, bytes)')


def check_histograms(samples, types, problems):
    groups = {}
    for (name, labels), value in samples.items():
        base = family(name, types)
        if types.get(base) == 'histogram':
            rest = tuple(x for x in labels if x[0] != 'le')
            groups.setdefault((base, rest), []).append((name, dict(labels).get('le'), value))
    for (base, rest), rows in groups.items():
        buckets = [(float(le.replace('+Inf', 'inf')), v) for n, le, v in rows if n == base + '_bucket']
        count = [v for n, _, v in rows if n == base + '_count']
        ordered = sorted(buckets)
        if not buckets or ordered[-1][0] != float('inf') or count != [ordered[-1][1]]:
            problems.append(f'{base}: no +Inf bucket that equals _count')
        if [v for _, v in ordered] != sorted(v for _, v in ordered):
            problems.append(f'{base}: buckets are not cumulative')
        if not any(n == base + '_sum' for n, _, _ in rows):
            problems.append(f'{base}: no _sum')


def read(path, problems):
    types, helps, samples, closed, last = {}, {}, {}, set(), None
    text = open(path, encoding='utf-8').read()
    if not text.endswith('\n'):
        problems.append('the last line has no newline')
    for n, line in enumerate(text.splitlines(), 1):
        where = f'{path}:{n}'
        m = re.match(r'^# (HELP|TYPE) (\S+) (.+)$', line)
        if m:
            table = helps if m[1] == 'HELP' else types
            if m[2] in table:
                problems.append(f'{where}: {m[1]} of {m[2]} twice')
            if any(family(s, types) == m[2] for s, _ in samples):
                problems.append(f'{where}: {m[1]} of {m[2]} after its samples')
            table[m[2]] = m[3]
            continue
        m = SAMPLE.match(line)
        if not m:
            problems.append(f'{where}: {line!r}')
            continue
        base = family(m[1], types)
        if base not in types:
            problems.append(f'{where}: no TYPE of {base}')
        if base != last:
            if base in closed:
                problems.append(f'{where}: the samples of {base} are not together')
            closed.add(last)
            last = base
        key = (m[1], read_labels(m[2], where, problems))
        if key in samples:
            problems.append(f'{where}: {m[1]} with these labels twice')
        samples[key] = float(m[3])
    check_names(types, helps, problems)
    check_histograms(samples, types, problems)
    return types, samples


def main():
    problems = []
    types, samples = read(sys.argv[1], problems)
    names = {name for name, _ in samples}
    if len(types) < 20:
        problems.append(f'only {len(types)} metrics')
    for path in sys.argv[2:]:
        with open(path, encoding='utf-8') as f:
            used = set(re.findall(r'\bog_[a-z0-9_]+\b', f.read()))
        problems += [f'{path}: {name} is no metric' for name in sorted(used - names)]
        if not used:
            problems.append(f'{path}: uses no metric')
    print('\n'.join(problems) if problems else f'metrics: {len(types)} metrics, {len(samples)} samples, nothing to say')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
