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
import com.google.gerrit.metrics.Counter0;
import com.google.gerrit.metrics.Description;
import com.google.gerrit.metrics.MetricMaker;
import com.google.gerrit.server.config.SitePaths;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import io.lockstep.bridge.sidecar.RefVerdict;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarException;
import io.lockstep.bridge.work.BackgroundLoop;
import io.lockstep.bridge.work.BridgeWorkQueue;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.List;
import java.util.UUID;

/**
 * Deletions of projects, from the moment that Gerrit removed the folder until every site knows.
 *
 * <p>The folder is gone before the sidecar is asked, and cannot come back. So each deletion is
 * recorded in a file first, with its request id, and is repeated until the sidecar has decided,
 * also after a restart. Then the name is free again.
 */
@Singleton
public final class PendingDeletions {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();
  private static final Duration INTERVAL = Duration.ofSeconds(2);
  private static final String TEMPORARY = ".new";

  private final Sidecar sidecar;
  private final Path folder;
  private final Counter0 rejected;
  private BackgroundLoop loop;

  @Inject
  public PendingDeletions(Sidecar sidecar, SitePaths site, MetricMaker metrics) {
    this.sidecar = sidecar;
    this.folder = site.data_dir.resolve("lockstep").resolve("deletions");
    metrics.newCallbackMetric(
        "lockstep/project_deletions_pending",
        Integer.class,
        new Description("Projects that are deleted here and not yet at the other sites")
            .setGauge()
            .setUnit("projects"),
        this::count);
    rejected =
        metrics.newCounter(
            "lockstep/project_deletions_rejected",
            new Description("Projects that are deleted here, and stay at the other sites")
                .setRate()
                .setUnit("projects"));
  }

  /** Begins to complete the deletions that are left over. */
  public void start(BridgeWorkQueue work) {
    loop = work.start("complete project deletions", this::completeAll);
  }

  /** Stops. The remaining deletions are completed after the next start. */
  public void stop() {
    if (loop != null) {
      loop.stop();
    }
  }

  /**
   * Deletes a project at every site.
   *
   * @throws StorageException the sidecar has not decided yet; it is asked again until it has
   */
  void delete(String project) {
    try {
      if (!Files.exists(recordFile(project))) {
        write(project, UUID.randomUUID().toString());
      }
      complete(project);
    } catch (IOException e) {
      throw new StorageException(
          "project " + project + " is gone here, and will be at the other sites", e);
    }
  }

  /**
   * Completes the deletion of a project, if one is pending.
   *
   * @throws IOException the sidecar has not decided
   */
  void complete(String project) throws IOException {
    String requestId;
    try {
      requestId = Files.readAllLines(recordFile(project), UTF_8).get(0);
    } catch (NoSuchFileException e) {
      return;
    }
    RefVerdict verdict = sidecar.deleteProject(project, requestId);
    switch (verdict.code()) {
      case COMMITTED -> logger.atInfo().log("project %s is deleted at every site", project);
      case INVALID -> {
        rejected.increment();
        logger.atSevere().log("project %s cannot be deleted: %s", project, verdict.message());
      }
      default -> throw SidecarException.refused(verdict.message());
    }
    Files.deleteIfExists(recordFile(project));
  }

  private void completeAll() throws IOException, InterruptedException {
    for (Path file : recordFiles()) {
      complete(Files.readAllLines(file, UTF_8).get(1));
    }
    Thread.sleep(INTERVAL);
  }

  private List<Path> recordFiles() throws IOException {
    if (!Files.isDirectory(folder)) {
      return List.of();
    }
    try (var files = Files.list(folder)) {
      return files.filter(file -> !file.toString().endsWith(TEMPORARY)).toList();
    }
  }

  private int count() {
    try {
      return recordFiles().size();
    } catch (IOException e) {
      logger.atFine().withCause(e).log("%s cannot be listed", folder);
      return 0;
    }
  }

  /** A project's name may be longer than a file's name can be. */
  private Path recordFile(String project) {
    return folder.resolve(Hashing.sha256().hashString(project, UTF_8).toString());
  }

  private void write(String project, String requestId) throws IOException {
    Files.createDirectories(folder);
    Path temporary = Files.createTempFile(folder, "record", TEMPORARY);
    Files.write(temporary, List.of(requestId, project), UTF_8);
    Files.move(temporary, recordFile(project), StandardCopyOption.ATOMIC_MOVE);
  }
}
