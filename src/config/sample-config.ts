import { readFile } from 'node:fs/promises';

/** The commented sample with every key, which is a valid file and changes nothing. */
export const sampleConfigFile = new URL('../../systemd/config.example.toml', import.meta.url).pathname;

export function readSampleConfig(): Promise<string> {
  return readFile(sampleConfigFile, 'utf8');
}
