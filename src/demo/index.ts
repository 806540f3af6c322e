/** `inferkv/demo`: a model and images to try things with. */
export { demoRepository, type DemoRepositoryOptions } from './repository.ts';
export { readImage, readLabels, syntheticImage, topClasses, type ImageOptions, type RankedClass } from './image.ts';
export { RESNET50_CLASSES, RESNET50_INPUT_SHAPE } from './resnet50.ts';
