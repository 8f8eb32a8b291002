// Reading JSON from outside, field by field, into types that cannot be wrong.
import { OciError } from './errors.ts';

export type JsonObject = Readonly<Record<string, unknown>>;

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** Errors: ERR_OCI_MANIFEST naming `what` when the bytes are not one JSON object in UTF-8. */
export function parseJsonObject(bytes: Uint8Array, what: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(utf8.decode(bytes));
  } catch (error) {
    throw new OciError('ERR_OCI_MANIFEST', `${what} is not valid json`, { cause: error });
  }
  return asObject(value, what);
}

export function asObject(value: unknown, what: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(what, 'an object');
  return value as JsonObject;
}

/** Null counts as absent, as Go's decoder does it. */
export function optionalObject(object: JsonObject, field: string, what: string): JsonObject | undefined {
  const value = object[field];
  return value === undefined || value === null ? undefined : asObject(value, `${what} ${field}`);
}

export function optionalString(object: JsonObject, field: string, what: string): string | undefined {
  const value = object[field];
  if (value === undefined || value === null || value === '') return undefined;
  if (typeof value !== 'string') throw wrong(`${what} ${field}`, 'a string');
  return value;
}

export function requiredString(object: JsonObject, field: string, what: string): string {
  const value = optionalString(object, field, what);
  if (value === undefined) throw new OciError('ERR_OCI_MANIFEST', `${what} has no ${field}`);
  return value;
}

export function optionalStrings(object: JsonObject, field: string, what: string): string[] | undefined {
  const value = object[field];
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string'))
    throw wrong(`${what} ${field}`, 'a list of strings');
  return value;
}

export function optionalStringMap(object: JsonObject, field: string, what: string): Record<string, string> | undefined {
  const map = optionalObject(object, field, what);
  if (map === undefined) return undefined;
  for (const [key, value] of Object.entries(map)) {
    if (typeof value !== 'string') throw wrong(`${what} ${field} ${JSON.stringify(key)}`, 'a string');
  }
  return map as Record<string, string>;
}

function wrong(what: string, expected: string): OciError {
  return new OciError('ERR_OCI_MANIFEST', `${what} is not ${expected}`);
}
