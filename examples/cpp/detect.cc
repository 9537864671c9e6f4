// Sends picture files to a running Tandem system and prints what it sees; made from the protos alone.
//
//   make && build/detect 127.0.0.1:50050 a.jpg b.png
//
// Frames are written by one thread while another reads: the system takes frames while it still works
// on earlier ones, and holds the writer up when it has enough of them.
#include <fstream>
#include <iostream>
#include <iterator>
#include <thread>

#include <grpcpp/grpcpp.h>

#include "tandem/v1/detector.grpc.pb.h"

namespace {

std::string ReadFile(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void Print(const tandem::v1::DetectResponse& response, const char* name) {
  std::cout << name << ":";
  if (response.has_error()) std::cout << " " << response.error().message();
  for (const auto& found : response.detections().detections()) {
    std::cout << " " << found.category_name() << " " << found.score();
  }
  std::cout << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: detect HOST:PORT PICTURE...\n";
    return 2;
  }
  auto channel = grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials());
  auto stub = tandem::v1::Detector::NewStub(channel);
  grpc::ClientContext context;
  auto stream = stub->Detect(&context);
  std::thread writer([&] {
    for (int index = 2; index < argc; ++index) {
      tandem::v1::DetectRequest request;
      request.mutable_frame()->set_frame_id(index - 2);
      request.mutable_frame()->set_encoded(ReadFile(argv[index]));
      if (!stream->Write(request)) break;  // The stream is over: Finish tells why.
    }
    stream->WritesDone();
  });
  tandem::v1::DetectResponse response;
  while (stream->Read(&response)) Print(response, argv[response.frame_id() + 2]);
  writer.join();
  const grpc::Status status = stream->Finish();
  if (!status.ok()) std::cerr << status.error_message() << "\n";
  return status.ok() ? 0 : 1;
}
