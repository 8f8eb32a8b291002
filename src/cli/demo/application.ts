// The two upper layers of the demo's image: a first version of an application, and a second one that deletes and replaces
// files of the first. The program says so itself when it sees anything of the first version.
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';

export const programPath = '/app/answer.py';
/** What the first line of a right answer begins with. */
export const rightAnswer = 'answer 42';

const program = `import os, sys
opened = set()
sys.addaudithook(lambda event, args: opened.add(args[0]) if event == "open" else None)
import asyncio, csv, ctypes, decimal, email.message, hashlib, http.client, json, logging, sqlite3, ssl, unittest, xml.dom.minidom
import numpy

problems = [name for name in ("/app/removed.txt", "/app/data/first.json") if os.path.exists(name)]
with open("/app/settings.json") as file:
    if json.load(file)["version"] != 2:
        problems.append("/app/settings.json is the old one")
matrix = numpy.arange(16, dtype=float).reshape(4, 4) + numpy.eye(4)
rows = ", ".join(f"({int(x)})" for x in numpy.linalg.eigvals(matrix).real.round())
total = sum(x for (x,) in sqlite3.connect(":memory:").execute("values " + rows))
answer = round(float(numpy.trace(matrix))) + len(os.listdir("/app/data")) + 7
print("answer", answer if not problems else "wrong: " + ", ".join(problems))
print("eigenvalues sum to", total, "with numpy", numpy.__version__, "and", ssl.OPENSSL_VERSION)
print("files opened by the interpreter:", len(opened))
`;

interface AppFile {
  readonly path: string;
  readonly content: string;
}

const firstVersion: readonly AppFile[] = [
  { path: programPath, content: 'print("answer wrong: the program of the layer below ran")\n' },
  { path: '/app/settings.json', content: '{ "version": 1 }\n' },
  { path: '/app/removed.txt', content: 'deleted by the next layer\n' },
  { path: '/app/data/first.json', content: '{}\n' },
];

const secondVersion: readonly AppFile[] = [
  { path: programPath, content: program },
  { path: '/app/settings.json', content: '{ "version": 2 }\n' },
  // Whiteouts, OCI image spec layer.md: one file, and all that a directory had before.
  { path: '/app/.wh.removed.txt', content: '' },
  { path: '/app/data/.wh..wh..opq', content: '' },
  { path: '/app/data/second.json', content: '{}\n' },
];

/** Part of the key under which a built image is kept. */
export const applicationRecipe = JSON.stringify([firstVersion, secondVersion]);

/** Writes the contents of both layers below `dir`; returns one folder per layer, the lower first. */
export async function stageApplication(dir: string): Promise<string[]> {
  const folders: string[] = [];
  for (const [index, files] of [firstVersion, secondVersion].entries()) {
    const folder = path.join(dir, `app-${index + 1}`);
    for (const file of files) {
      const target = path.join(folder, file.path);
      await mkdir(path.dirname(target), { recursive: true });
      await writeFile(target, file.content);
      await chmod(target, 0o644);
    }
    folders.push(folder);
  }
  return folders;
}
