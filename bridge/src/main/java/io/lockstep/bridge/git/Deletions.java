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

package io.lockstep.bridge.git;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.common.flogger.FluentLogger;
import com.google.common.hash.Hashing;
import com.google.gerrit.exceptions.StorageException;
import com.google.gerrit.server.config.SitePaths;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import io.lockstep.bridge.sidecar.Loop;
import io.lockstep.bridge.sidecar.RefVerdict;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;
import java.util.UUID;

/**
 * Deletions of projects, from the moment Gerrit has removed a folder until every site knows.
 *
 * <p>The folder is gone before anybody asks the sidecar, and cannot come back. So each deletion is
 * written down first, with its request id, and is asked for until the sidecar has decided, also
 * after a restart. The name is free again then.
 */
@Singleton
public final class Deletions {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();
  private static final long LOOK_EVERY_MILLIS = 2_000;

  private final Sidecar sidecar;
  private final Path folder;
  private Loop loop;

  @Inject
  public Deletions(Sidecar sidecar, SitePaths site) {
    this.sidecar = sidecar;
    this.folder = site.data_dir.resolve("lockstep").resolve("deletions");
  }

  /** Begins to ask for what is left over. */
  public void start() {
    loop = Loop.start("Lockstep-Deletions", this::settleAll);
  }

  /** Asks no more; what is left over is asked for after the next start. */
  public void stop() {
    if (loop != null) {
      loop.stop();
    }
  }

  /**
   * Deletes a project everywhere.
   *
   * @throws StorageException the sidecar has not decided yet; it is asked again until it has
   */
  void delete(String project) {
    try {
      if (!Files.exists(record(project))) {
        write(project, UUID.randomUUID().toString());
      }
      settle(project);
    } catch (IOException e) {
      throw new StorageException(
          "project " + project + " is gone here, and will be at the other sites", e);
    }
  }

  /**
   * Ends a deletion that is under way; nothing if there is none.
   *
   * @throws IOException the sidecar has not decided
   */
  void settle(String project) throws IOException {
    String requestId;
    try {
      requestId = Files.readAllLines(record(project), UTF_8).get(0);
    } catch (NoSuchFileException e) {
      return;
    }
    RefVerdict verdict = sidecar.deleteProject(project, requestId);
    switch (verdict.code()) {
      case COMMITTED -> logger.atInfo().log("project %s is deleted at every site", project);
      case INVALID ->
          logger.atSevere().log("project %s cannot be deleted: %s", project, verdict.message());
      default -> throw SidecarException.refused(verdict.message());
    }
    Files.deleteIfExists(record(project));
  }

  private void settleAll() throws IOException, InterruptedException {
    if (Files.isDirectory(folder)) {
      List<Path> records;
      try (var files = Files.list(folder)) {
        records = files.filter(file -> !file.toString().endsWith(".new")).toList();
      }
      for (Path record : records) {
        settle(Files.readAllLines(record, UTF_8).get(1));
      }
    }
    Thread.sleep(LOOK_EVERY_MILLIS);
  }

  /** A name may be longer than a file's may be. */
  private Path record(String project) {
    return folder.resolve(Hashing.sha256().hashString(project, UTF_8).toString());
  }

  private void write(String project, String requestId) throws IOException {
    Files.createDirectories(folder);
    Path aside = Files.createTempFile(folder, "record", ".new");
    Files.write(aside, List.of(requestId, project), UTF_8);
    Files.move(aside, record(project), StandardCopyOption.ATOMIC_MOVE);
  }
}
