// The codes of errors as docs/registry.md tells them.
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { statusOfCode } from '../../src/registry/errors.ts';

it('has exactly the codes and statuses of the table in the documentation', () => {
  const page = readFileSync(new URL('../../docs/registry.md', import.meta.url), 'utf8');
  const rows = [...page.matchAll(/^\| ([A-Z_]+) \| (\d{3}) \| .+ \|$/gm)];
  expect(rows.map(([, code, status]) => [code, Number(status)])).toEqual(Object.entries(statusOfCode));
});
