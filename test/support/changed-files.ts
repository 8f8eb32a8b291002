// What containers do to the layers below them, as a script, and what it prints.
import type { BuiltMember } from './tar-builder.ts';

const dir = (name: string): BuiltMember => ({ name: `${name}/`, flag: '5', mode: 0o755 });
const file = (name: string, data: string | Buffer): BuiltMember => ({ name, data });

/** A layer of files that the script below changes. */
export const changedLower = [
  dir('data'),
  dir('data/sub'),
  dir('data/replaced'),
  file('data/kept', 'kept\n'),
  file('data/changed', 'old\n'),
  file('data/deleted', 'gone\n'),
  file('data/moved', 'moved\n'),
  file('data/sub/one', 'one\n'),
  file('data/sub/two', 'two\n'),
  file('data/replaced/old', 'old\n'),
  file('data/whited', 'never seen\n'),
];
/** The one above. */
export const changedUpper = [
  file('data/.wh.whited', ''),
  file('data/late', 'late\n'),
  { ...dir('sticky'), mode: 0o1777 },
];

/** Writes, deletes, renames, links and replaces what is below. */
export const changingScript = `
set -e
cd /data
test ! -e whited
echo new > changed
echo more >> kept
rm deleted
mv moved elsewhere
mv sub renamed
rm -r replaced && mkdir replaced && echo fresh > replaced/new
ln late linked
chmod 600 late
mkdir made && cp -r renamed made/copy
for name in $(ls -A . renamed replaced made/copy); do echo $name; done
cat changed kept elsewhere renamed/one made/copy/two replaced/new linked
stat -c '%a %h' late
stat -c %a /sticky
`;
/** What it prints when all of that works. */
export const changedAnswer = `.:
changed
elsewhere
kept
late
linked
made
renamed
replaced
made/copy:
one
two
renamed:
one
two
replaced:
new
new
kept
more
moved
one
two
fresh
late
600 2
1777
`;
