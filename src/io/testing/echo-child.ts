import { parentConnection } from '../real-processes.ts';

// Test program: sends every frame back.
const parent = parentConnection();
parent.onFrame((frame) => parent.send([frame]));
