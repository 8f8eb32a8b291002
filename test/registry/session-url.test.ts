import { describe, expect, it } from 'vitest';
import { sessionUrl } from '../../src/registry/client/session-url.ts';

const endpoint = new URL('https://registry.example:5000');

function of(path: string, repository = 'team/app'): string | undefined {
  return sessionUrl(path.includes('://') ? path : endpoint.origin + path, endpoint, `/v2/${repository}/blobs/uploads/`)
    ?.href;
}

describe('the address of an upload session', () => {
  it.each([
    '/v2/team/app/blobs/uploads/0a1b-2c?_state=a%2Fb&digest=x',
    '/v2/team/app/blobs/uploads/0a1b-2c/',
    '/v2/team/app/blobs/uploads/aGk%3D',
    '/v2/team/app/blobs/uploads/..a',
    '/artifacts-uploads/namespaces/p/repositories/app/uploads/AB=?upload_id=1',
  ])('is taken: %s', (path) => {
    expect(of(path)).toBe(endpoint.origin + path);
  });

  it.each([
    '://',
    '/',
    '/api/v2.0/projects/other',
    '/v2/upload/manifests/latest',
    'file:///etc/passwd',
    'https://elsewhere.example/v2/team/app/blobs/uploads/x',
    'http://registry.example:5000/v2/team/app/blobs/uploads/x',
    '/v2/team/app/blobs/uploads/',
    '/v2/team/app/blobs/uploads',
    '/v2/team/app/blobs/uploads/x/manifests/latest',
    '/v2/team/app/manifests/latest',
    '/v2/team/apple/blobs/uploads/x',
    '/v2/other/blobs/uploads/x',
    '/v2/team/app/blobs/uploads/../../manifests/latest',
    '/v2/team/app/blobs/uploads/%2E%2e',
    '/v2/team/app/blobs/uploads/%2e%2e%2f%2e%2e%2fmanifests%2flatest',
    '/v2/team/app/blobs/uploads/..%5c..%5cmanifests',
    '/v2/team/app/blobs/uploads/%252e%252e%252f',
    '/v2/team/app/blobs/uploads/%ff',
    '//v2/other/manifests/latest',
    '/x/..;/v2/other/manifests/latest',
    '/%76%32/other/manifests/latest',
    '/V2/other/manifests/latest',
    '/v2',
  ])('is not: %s', (path) => {
    expect(of(path)).toBeUndefined();
  });
});
