// The addon's sources for binding.gyp; with `keeper` those of peel-keeper, with `apart` those that the Makefile compiles alone, too. A folder is compiled in one piece, which parses its headers once and takes a third of the time; not the
// bindings, nor the files that name something as another one does.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';

const apart = ['src/cache/present_file.cpp', 'src/gzip/isal_inflater.cpp', 'src/gzip/isal_member_inflater.cpp'];
const outside = ['binding', 'keeper'];
/** What the keeper takes of sys. */
const beside = ['capabilities', 'fd_message', 'files'];
const made = 'build/folders';

function sourcesOf(folder) {
  const names = readdirSync(`src/${folder}`).filter((name) => name.endsWith('.cpp'));
  return names.toSorted().map((name) => `src/${folder}/${name}`);
}

/** Untouched where it is as it should be: what includes it need not be compiled again. */
function pieceOf(folder) {
  const path = `${made}/${folder}.cpp`;
  const sources = sourcesOf(folder).filter((source) => !apart.includes(source));
  const text = sources.map((source) => `#include "${source.slice('src/'.length)}"\n`).join('');
  let before;
  try {
    before = readFileSync(path, 'utf8');
  } catch {
    mkdirSync(made, { recursive: true });
  }
  if (before !== text) writeFileSync(path, text);
  return path;
}

if (process.argv[2] === 'apart') {
  process.stdout.write(apart.join('\n'));
  process.exit();
}
if (process.argv[2] === 'keeper') {
  process.stdout.write([pieceOf('keeper'), ...beside.map((name) => `src/sys/${name}.cpp`)].join('\n'));
  process.exit();
}
const folders = readdirSync('src').filter((name) => !outside.includes(name));
process.stdout.write([...folders.toSorted().map(pieceOf), ...apart, ...sourcesOf('binding')].join('\n'));
