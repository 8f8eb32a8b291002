import { describe, expect, it } from 'vitest';
import { parseListenAddress } from '../../src/config/listen-address.ts';

describe('parseListenAddress', () => {
  it.each([
    ['127.0.0.1:9464', { host: '127.0.0.1', port: 9464 }],
    ['localhost:0', { host: 'localhost', port: 0 }],
    [':65535', { host: '', port: 65_535 }],
    ['[::1]:9464', { host: '::1', port: 9464 }],
    ['unix:/run/peel/metrics.sock', { path: '/run/peel/metrics.sock' }],
  ])('takes %s', (text, address) => {
    expect(parseListenAddress(text)).toEqual(address);
  });

  it.each([
    '',
    '9464',
    ':',
    'host',
    'host:',
    ':65536',
    '::1:9464',
    '[::1]',
    '[::1:9464',
    '[1.2.3.4]:1',
    '[:::]:1',
    'a b:1',
  ])('refuses %j', (text) => expect(parseListenAddress(text)).toBeUndefined());

  it.each([
    'http://a:1',
    'a:1/metrics',
    'a:1\n',
    'unix:',
    'unix:relative',
    'unix:/',
    `unix:/${'s'.repeat(107)}`,
    'unix:/a\0',
  ])('refuses %j', (text) => expect(parseListenAddress(text)).toBeUndefined());
});
