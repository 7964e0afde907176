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

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import io.lockstep.bridge.TestSidecar;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarException;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.eclipse.jgit.internal.storage.file.FileRepository;
import org.eclipse.jgit.lib.Repository;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

/**
 * JGit's contract of ref updates. Each scenario runs on a bare repository and on one whose refs a
 * real sidecar moves. Both must return the same result and have the same refs afterwards. Rows that
 * differ on purpose state the difference and the reason.
 */
final class ConformanceTest {
  private static final String MASTER = "refs/heads/master";

  @TempDir static Path plain;
  private static TestSidecar process;
  private static Sidecar sidecar;
  private static Sidecar inParts;
  private static int projects;

  @BeforeAll
  static void start() throws Exception {
    process = new TestSidecar();
    sidecar = process.client();
    inParts = process.client(BatchRows.PART);
  }

  @AfterAll
  static void stop() throws Exception {
    sidecar.close();
    inParts.close();
    process.stop();
  }

  @TestFactory
  Stream<DynamicTest> singleUpdates() {
    return tests(RefUpdateRows.ROWS, sidecar);
  }

  @TestFactory
  Stream<DynamicTest> batches() {
    return tests(BatchRows.ROWS, sidecar);
  }

  @TestFactory
  Stream<DynamicTest> batchesInParts() {
    return tests(BatchRows.ROWS_IN_PARTS, inParts);
  }

  private Stream<DynamicTest> tests(List<Row> rows, Sidecar client) {
    return rows.stream().map(row -> dynamicTest(row.name(), () -> compare(row, client)));
  }

  private static void compare(Row row, Sidecar client) throws Exception {
    String project = "rows/" + projects++;
    sidecar.createProject(project, MASTER);
    try (Repository bare = bare(plain.resolve(project));
        Repository local = new FileRepository(process.root().resolve(project + ".git").toFile());
        Repository wrapped = new BridgeRepository(local, project, client)) {
      String expected = observe(row, new RepositoryUnderTest(bare));
      String actual = observe(row, new RepositoryUnderTest(wrapped));
      if (row.difference() == null) {
        assertEquals(expected, actual);
      } else {
        assertEquals(row.difference(), actual, row.why());
        assertNotEquals(expected, actual, "JGit answers the same now: the row differs no longer");
      }
    }
  }

  private static Repository bare(Path folder) throws Exception {
    FileRepository bare = new FileRepository(folder.toFile());
    bare.create(true);
    return bare;
  }

  /** The result, and all refs if the row does not differ. */
  private static String observe(Row row, RepositoryUnderTest subject) throws Exception {
    String answer;
    try {
      answer = row.scenario().run(subject);
    } catch (SidecarException e) {
      answer = e.kind().name();
    }
    return row.difference() == null ? answer + "\n--\n" + subject.refs() : answer;
  }
}
