// Adds to package-lock.json what npm left out: the optional packages of other platforms that the
// registry in use does not have. They carry no checksum and are installed on those platforms only.
import { readFileSync, writeFileSync } from 'node:fs';

const lock = JSON.parse(readFileSync('package-lock.json', 'utf8'));
const { packages } = lock;
const names = new Set(Object.keys(packages).map((key) => key.replace(/^.*node_modules\//, '')));
const systems = ['android', 'darwin', 'freebsd', 'linux', 'openharmony', 'win32'];
const processors = ['arm64', 'arm', 'ia32', 'ppc64', 'riscv64', 's390x', 'x64'];

for (const parent of Object.values(packages)) {
  for (const [name, version] of Object.entries(parent.optionalDependencies ?? {})) {
    if (names.has(name)) continue;
    const platform = name.slice(name.indexOf('/') + 1);
    const os = systems.find((system) => platform.includes(system));
    const cpu = processors.find((processor) => platform.includes(processor));
    if (os === undefined || cpu === undefined) throw new Error(`for which platform is ${name}?`);
    const libc = platform.includes('musl') ? 'musl' : 'glibc';
    packages[`node_modules/${name}`] = {
      version,
      cpu: [cpu],
      ...(parent.dev ? { dev: true } : {}),
      ...(os === 'linux' ? { libc: [libc] } : {}),
      optional: true,
      os: [os],
    };
    names.add(name);
  }
}
const sorted = Object.entries(packages).sort(([one], [other]) => (one < other ? -1 : 1));
writeFileSync(
  'package-lock.json',
  `${JSON.stringify({ ...lock, packages: Object.fromEntries(sorted) }, undefined, 2)}\n`,
);
