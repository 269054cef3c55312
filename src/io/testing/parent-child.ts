import { parentConnection, realProcesses } from '../real-processes.ts';

// Test program: starts a child that loops without end, and tells its process id.
const parent = parentConnection();
parent.onFrame(() => undefined);
const loop = realProcesses().spawn(new URL('./loop-child.ts', import.meta.url), {});
loop.connection.onFrame(() => parent.send([Buffer.from(String(loop.pid))]));
