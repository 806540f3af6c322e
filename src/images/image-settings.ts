import { z } from 'zod';

/** How an image becomes a model's input: what the model was trained with. */
export interface ImageSettings {
  /** Pixels high; left out, the image's own height, or what its width asks for. */
  readonly height?: number | undefined;
  /** Pixels wide; left out, the image's own width, or what its height asks for. */
  readonly width?: number | undefined;
  /** With both sides given: `crop` scales until both are filled and cuts the middle out, `stretch` changes proportions. `crop` if left out. */
  readonly fit?: 'crop' | 'stretch' | undefined;
  /** How much longer than the crop the shorter side is scaled to before `crop`; 1 if left out. */
  readonly margin?: number | undefined;
  /** Sides that are not given become multiples of this, rounded to the nearest; 1 if left out. */
  readonly multipleOf?: number | undefined;
  /** Sides that are not given are at most so long, the image being scaled down for it. */
  readonly maxSide?: number | undefined;
  /** `nchw`: channels before rows; `nhwc`: channels last. `nchw` if left out. */
  readonly layout?: 'nchw' | 'nhwc' | undefined;
  /** Order of the channels; `rgb` if left out. */
  readonly channels?: 'rgb' | 'bgr' | undefined;
  /** By channel, in their order, of pixels in [0, 1]; subtracted. 0 if left out. */
  readonly mean?: readonly number[] | undefined;
  /** By channel, in their order; divided by. 1 if left out. */
  readonly deviation?: readonly number[] | undefined;
}

const pixels = z.number().int().positive().max(16_384);
const threeNumbers = z.array(z.number()).length(3);

/** Checks image settings. */
export const imageSettingsSchema: z.ZodType<ImageSettings> = z.strictObject({
  height: pixels.optional(),
  width: pixels.optional(),
  fit: z.enum(['crop', 'stretch']).optional(),
  margin: z.number().min(1).max(4).optional(),
  multipleOf: pixels.optional(),
  maxSide: pixels.optional(),
  layout: z.enum(['nchw', 'nhwc']).optional(),
  channels: z.enum(['rgb', 'bgr']).optional(),
  mean: threeNumbers.optional(),
  deviation: threeNumbers.optional(),
});

/** What ImageNet models of torchvision are trained with: the shorter side scaled to 256, 224 pixels cut out, normalised. */
export const IMAGENET: ImageSettings = {
  height: 224,
  width: 224,
  margin: 256 / 224,
  mean: [0.485, 0.456, 0.406],
  deviation: [0.229, 0.224, 0.225],
};
