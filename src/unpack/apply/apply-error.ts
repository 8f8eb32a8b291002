import { TreeError } from '../../tree/errors.ts';
import { UnpackError, type UnpackErrorCode } from '../errors.ts';
import type { TreeForm } from '../unpacker.ts';

/** What unpacking says of a TreeError, which becomes its cause; other errors are as they are. */
export function unpackErrorOf(error: unknown, form: TreeForm): unknown {
  return error instanceof TreeError ? new UnpackError(codeOf(error, form), error.message, { cause: error }) : error;
}

function codeOf({ code }: TreeError, form: TreeForm): UnpackErrorCode {
  switch (code) {
    case 'ERR_TREE_LIMIT':
      return 'ERR_UNPACK_LIMIT';
    case 'ERR_TREE_BELOW':
    case 'ERR_TREE_LOWER_LINK':
    case 'ERR_TREE_DEVICE':
      return 'ERR_UNPACK_BELOW';
    case 'ERR_TREE_HARDLINK':
      // What it links to may be in a layer below.
      return form === 'plain' ? 'ERR_UNPACK_ENTRY' : 'ERR_UNPACK_BELOW';
    default:
      return 'ERR_UNPACK_ENTRY';
  }
}
