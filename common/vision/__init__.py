"""Around the network, in numpy and OpenCV alone: image to tensors, outputs to detections."""
