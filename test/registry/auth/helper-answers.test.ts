import { describe, expect, it } from 'vitest';
import { HelperAnswers } from '../../../src/registry/auth/helper-answers.ts';
import { installHelper } from '../../support/credential-helper.ts';

const minute = 60_000;

/** Answers of the helper `cloud`, by a clock that the test moves. */
function answers() {
  const clock = { now: 1_800_000_000_000 };
  return { clock, kept: new HelperAnswers({ timeoutMs: 30_000, now: () => clock.now }) };
}

function jwt(claims: unknown): string {
  return ['{}', JSON.stringify(claims), 'x'].map((part) => Buffer.from(part).toString('base64url')).join('.');
}

describe('HelperAnswers', () => {
  it('keeps what a helper says for a quarter of an hour', async () => {
    const { clock, kept } = answers();
    const helper = installHelper('cloud');
    helper.answer('ann', 'one');
    expect(await kept.get('cloud', 'r.io')).toMatchObject({ password: 'one' });
    helper.answer('ann', 'two');
    clock.now += 14 * minute;
    expect(await kept.get('cloud', 'r.io')).toMatchObject({ password: 'one' });
    clock.now += 2 * minute;
    expect(await kept.get('cloud', 'r.io')).toMatchObject({ password: 'two' });
    expect(helper.starts()).toBe(2);
  });

  it('keeps a token that names its own end until shortly before it, and half a day at most', async () => {
    const { clock, kept } = answers();
    const helper = installHelper('cloud');
    helper.answer('<token>', jwt({ exp: clock.now / 1000 + 60 * 60 }));
    await kept.get('cloud', 'r.io');
    clock.now += 58 * minute;
    await kept.get('cloud', 'r.io');
    expect(helper.starts()).toBe(1);
    clock.now += 1.5 * minute;
    helper.answer('<token>', jwt({ exp: clock.now / 1000 + 1_000_000 }));
    await kept.get('cloud', 'r.io');
    expect(helper.starts()).toBe(2);
    clock.now += 13 * 60 * minute;
    await kept.get('cloud', 'r.io');
    expect(helper.starts()).toBe(3);
  });

  it.each([jwt({ exp: 'soon' }), jwt(null), 'a.b.c', 'a.e30.c'])(
    'takes %s for a secret like any other',
    async (secret) => {
      const { clock, kept } = answers();
      const helper = installHelper('cloud');
      helper.answer('ann', secret);
      await kept.get('cloud', 'r.io');
      clock.now += 14 * minute;
      expect(await kept.get('cloud', 'r.io')).toMatchObject({ password: secret });
      expect(helper.starts()).toBe(1);
    },
  );

  it('asks again for who wants it fresh, and for each server', async () => {
    const { kept } = answers();
    const helper = installHelper('cloud');
    helper.answer('ann', 'one');
    await kept.get('cloud', 'r.io');
    await kept.get('cloud', 'other.io');
    helper.answer('ann', 'two');
    expect(await kept.get('cloud', 'r.io', { fresh: true })).toMatchObject({ password: 'two' });
    expect(await kept.get('cloud', 'r.io')).toMatchObject({ password: 'two' });
    expect(helper.starts()).toBe(3);
  });

  it('starts one helper for many, of whom one may leave', async () => {
    const { kept } = answers();
    const helper = installHelper('cloud', 'sleep 0.3; echo "{\\"Username\\":\\"ann\\",\\"Secret\\":\\"one\\"}"');
    const controller = new AbortController();
    const leaver = kept.get('cloud', 'r.io', { signal: controller.signal });
    const others = Promise.all(Array.from({ length: 10 }, async () => await kept.get('cloud', 'r.io')));
    controller.abort(new Error('left'));
    await expect(leaver).rejects.toThrow('left');
    expect(await others).toHaveLength(10);
    expect(helper.starts()).toBe(1);
  });

  it('keeps neither a failure nor that there is nothing', async () => {
    const { kept } = answers();
    installHelper('broken', 'exit 3');
    await expect(kept.get('broken', 'r.io')).rejects.toMatchObject({ code: 'CREDENTIALS_INVALID' });
    installHelper('broken', 'echo "credentials not found in native keychain"; exit 1');
    expect(await kept.get('broken', 'r.io')).toBeUndefined();
    installHelper('broken').answer('ann', 'one');
    expect(await kept.get('broken', 'r.io')).toMatchObject({ password: 'one' });
    expect(await kept.get('not-installed-here', 'r.io')).toBe('missing');
  });
});
