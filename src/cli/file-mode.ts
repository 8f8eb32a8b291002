import type { NodeType } from '../tree/tree.ts';

const typeLetters: Record<NodeType, string> = { file: '-', dir: 'd', symlink: 'l', char: 'c', block: 'b', fifo: 'p' };

/** `drwxr-xr-t`, as `ls -l` prints type and mode. */
export function modeString(type: NodeType, mode: number): string {
  const bits = Array.from('rwxrwxrwx', (letter, index) => ((mode >> (8 - index)) & 1 ? letter : '-'));
  const special = (index: number, bit: number, letter: string): void => {
    if (mode & bit) bits[index] = bits[index] === 'x' ? letter : letter.toUpperCase();
  };
  special(2, 0o4000, 's');
  special(5, 0o2000, 's');
  special(8, 0o1000, 't');
  return typeLetters[type] + bits.join('');
}

/** `0755`, `4755` */
export function octalMode(mode: number): string {
  return mode.toString(8).padStart(4, '0');
}

export const typeNames: Record<NodeType, string> = {
  file: 'regular file',
  dir: 'directory',
  symlink: 'symbolic link',
  char: 'character device',
  block: 'block device',
  fifo: 'fifo',
};
