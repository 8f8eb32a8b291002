import { release } from 'node:os';
import { fuseDeviceRefusal } from '../../image/transports/fuse-device.ts';
import { kernelRefusal } from '../../image/kernel-probe.ts';
import { addon } from '../../native/addon.ts';
import { checkCacheDisk } from './cache-disk.ts';
import { checkHelper } from './fuse-helper.ts';
import { checkPassthrough } from './passthrough.ts';

export interface Finding {
  readonly what: string;
  /** `note`: mounting works, something is slower or missing. `broken`: this user cannot mount. */
  readonly state: 'ok' | 'note' | 'broken';
  /** What is there, as half a sentence. */
  readonly found: string;
  /** What to do about it; undefined when it is ok or nothing can be done. */
  readonly todo?: string | undefined;
}

export interface Machine {
  readonly root: string;
  readonly runDir: string;
  readonly uid: number;
}

const checks: readonly ((machine: Machine) => Finding | Promise<Finding>)[] = [
  checkAddon,
  checkKernel,
  checkDevice,
  checkHelper,
  checkErofs,
  checkPassthrough,
  checkCacheDisk,
];

/** Every check in order; one that throws is a finding of its own. */
export async function runChecks(machine: Machine): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const check of checks) {
    try {
      findings.push(await check(machine));
    } catch (error) {
      const what = check.name.replace(/^check/, '').toLowerCase();
      findings.push({ what, state: 'broken', found: error instanceof Error ? error.message : String(error) });
    }
  }
  return findings;
}

function checkAddon(): Finding {
  try {
    addon();
    return { what: 'native addon', state: 'ok', found: `loads in Node ${process.version}` };
  } catch (error) {
    const found = error instanceof Error ? error.message : String(error);
    return { what: 'native addon', state: 'broken', found };
  }
}

function checkKernel(): Finding {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const found = `Linux ${release()}`;
  if (process.platform !== 'linux')
    return { what: 'kernel', state: 'broken', found: process.platform, todo: 'peel mounts on Linux only' };
  if (major < 5 || (major === 5 && minor < 4)) {
    return { what: 'kernel', state: 'note', found, todo: 'mounts were never tried on kernels before 5.4' };
  }
  return { what: 'kernel', state: 'ok', found };
}

function checkDevice(): Finding {
  const refusal = fuseDeviceRefusal();
  if (refusal === undefined) return { what: '/dev/fuse', state: 'ok', found: 'can be opened' };
  return { what: '/dev/fuse', state: 'broken', found: refusal };
}

async function checkErofs({ root, runDir, uid }: Machine): Promise<Finding> {
  const what = 'kernel transport';
  if (uid !== 0) return { what, state: 'note', found: 'is for root only', todo: 'mounts use the native transport' };
  const refusal = await kernelRefusal(root, runDir);
  if (refusal === undefined) return { what, state: 'ok', found: 'EROFS passes the probe' };
  return { what, state: 'note', found: refusal, todo: 'mounts use the native transport' };
}
