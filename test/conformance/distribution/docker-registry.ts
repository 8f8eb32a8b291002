// What Debian's docker-registry 2.8.2 is known not to do as the spec has it.
import type { Deviation } from './suite.ts';

const noReferrers = { skip: 'it has no referrers API; the list without it is asked for below' };

export const dockerRegistryDeviations: readonly Deviation[] = [
  { test: /what is not of the API is 404/, fails: /expected 200 to be 404/ },
  { test: /Support: .*405/, fails: /expected 200 to be 405/ },
  // Content is kept under its sha256, whatever it was pushed under.
  { test: /^Pulling blobs, sha512: (?:GET|HEAD) of (?!a missing)/, fails: /expected 'sha256:.*' to be 'sha512:/ },
  { test: /^Pushing a blob .*, sha512: (?:POST then|one chunk|three|the last|a body)/, fails: /'sha256:.*'sha512:/ },
  { test: /^Mounting .*is 201 with where it is now/, fails: /expected false to be true/ },
  { test: /^Pushing and pulling an? (?:image|index).* sha512: /, fails: /PUT: expected 400 to be 201/ },
  { test: /a single POST of .* is 201/, fails: /expected 202 to be 201/ },
  { test: /DIGEST_INVALID in a single POST/, fails: /expected 202 to be 400/ },
  { test: /^Pulling blobs: a name that is none is 400/, fails: /404, 'BLOB_UNKNOWN'/ },
  // The body of a 416 has another length than its header says.
  { test: /ranges .*(?:is 416|other units)/, fails: /aborted/ },
  { test: /a chunk out of order|after a 416/, fails: /expected 202 to be 416/ },
  { test: /a 416 tells in Range/, fails: /202, '0-3999'/ },
  { test: /a last chunk out of order in the PUT/, fails: /expected 400 to be 416/ },
  { test: /Content-Range that is none|does not fit its Content-Range/, fails: /\[ 400, 416 \] to include 202/ },
  { test: /a digest algorithm that does not exist/, fails: /expected 202 to be 400/ },
  { test: /the path of uploads takes POST only/, fails: /expected 404 to be 405/ },
  { test: /^Pushing and pulling (?:a sparse index): /, fails: /PUT: expected 400 to be 201/ },
  { test: /^Pushing and pulling layers that are not distributable/, fails: /PUT: expected 500 to be 201/ },
  { test: /^Pushing and pulling .* the list of referrers/, ...noReferrers },
  { test: /PUT with a subject/, fails: /expected undefined to be 'sha256:/ },
  { test: /^Pushing and pulling an artifact that refers.* can be deleted/, skip: 'it has no tags' },
  { test: /^Pushing and pulling .* can be deleted/, fails: /DELETE: expected 400 to be 202/ },
  // Neither `n` nor `last` is looked at, and tags come as they lie.
  { test: /^Pushing and pulling .* `last` cuts/, fails: /to deeply equal/ },
  { test: /^Listing Tags: (?:all tags|n gives|the Links|n of all|n=0|last)/, fails: /to deeply equal/ },
  { test: /^Listing Tags: an n that is no number/, fails: /expected 200 to be 400/ },
  { test: /^Listing Repositories: /, fails: /expected \[\] to deeply equal/ },
  { test: /4 MiB are accepted, 8 MiB are 413/, fails: /expected 400 to be 413/ },
  { test: /^Pushing Manifests: a digest that is none/, fails: /expected 500 to be 400/ },
  { test: /tags may be given with a digest/, fails: /\[ 201, \[\] \]/ },
  { test: /a tag that is none is refused/, fails: /tag=.bad: .* include 201/ },
  { test: /^Listing Referrers: of what nobody knows/, fails: /expected \[ 404, 'text\/plain/ },
  { test: /^Listing Referrers: a filter/, fails: /expected 404 to be 200/ },
  { test: /^Listing Referrers: a deleted/, fails: /201, undefined/ },
  { test: /^Listing Referrers: of a digest that is none/, fails: /expected 404 to be 400/ },
  { test: /^Listing Referrers: other methods/, fails: /expected 404 to be 405/ },
  { test: /^Deleting tags: DELETE of a tag/, fails: /DELETE: expected 400 to be 202/ },
  { test: /^Deleting tags: DELETE of a missing/, fails: /expected 400 to be 404/ },
  { test: /^Error Codes: a manifest at a digest that is none/, fails: /include 500/ },
  { test: /^Error Codes: paths that try/, fails: /include 301/ },
];
