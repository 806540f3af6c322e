/** `inferkv/demo`: models and images to try things with. */
export { demoRepository, type DemoRepositoryOptions } from './repository.ts';
export { readText, SAMPLE_IMAGE, type ReadText, type TextLine, type TextModels } from './read-text.ts';
export { readPixels, type Pixels, type Region } from '../images/image.ts';
export { readImage, readLabels, syntheticImage, topClasses, type ImageOptions, type RankedClass } from './image.ts';
export { RESNET50_CLASSES, RESNET50_INPUT_SHAPE } from './resnet50.ts';
export { torchscriptRepository } from './torchscript.ts';
