// The examples in docs/profile.md are what this release writes and reads.
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { readProfileManifest, readProfileSpans } from '../../src/index/peel-profile-reader.ts';
import { createPeelProfile } from '../../src/index/peel-profile-writer.ts';

const page = readFileSync(new URL('../../docs/profile.md', import.meta.url), 'utf8');
const compact = (text: string) => Buffer.from(JSON.stringify(JSON.parse(text)));

it('docs/profile.md shows a profile that is read, and written again, as it stands', () => {
  const [manifest = Buffer.alloc(0), spans = Buffer.alloc(0)] = [...page.matchAll(/^```json\n([\s\S]*?)^```$/gm)].map(
    ([, text]) => compact(text ?? ''),
  );
  const { subject, created } = readProfileManifest(manifest);
  const written = createPeelProfile({
    subject,
    recordedAt: Date.parse(created ?? ''),
    layers: readProfileSpans(spans),
  });
  expect(Buffer.from(written.blobs[1]?.bytes ?? []).toString()).toBe(spans.toString());
  expect(Buffer.from(written.manifest.bytes).toString()).toBe(manifest.toString());
});
