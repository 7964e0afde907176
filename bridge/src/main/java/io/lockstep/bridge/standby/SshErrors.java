// Copyright (C) 2026 The Lockstep Authors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
// http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

package io.lockstep.bridge.standby;

import static java.nio.charset.StandardCharsets.UTF_8;

import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarException;
import java.io.FilterOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.util.Optional;

/**
 * The errors of an SSH command. After the first error it adds why the update failed that the
 * command made on this thread, unless Gerrit's text says it. Gerrit has many texts that do not:
 * "internal server error", "unavailable", "Cannot post review".
 */
final class SshErrors extends FilterOutputStream {
  private final Sidecar sidecar;
  private final long start = System.nanoTime();

  SshErrors(OutputStream errors, Sidecar sidecar) {
    super(errors);
    this.sidecar = sidecar;
  }

  /** A command writes each of its messages with one call. */
  @Override
  public void write(byte[] bytes, int from, int length) throws IOException {
    out.write(bytes, from, length);
    Optional<String> reason = sidecar.takeFailureOfThread(start);
    String text = new String(bytes, from, length, UTF_8);
    if (reason.isPresent() && !text.contains(SidecarException.PREFIX)) {
      String line = text.endsWith("\n") ? "" : "\n";
      out.write((line + "fatal: " + reason.get() + "\n").getBytes(UTF_8));
    }
  }
}
