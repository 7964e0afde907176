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

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gerrit.server.change.ChangeCleanupRunner;
import com.google.inject.AbstractModule;
import com.google.inject.Guice;
import com.google.inject.matcher.Matchers;
import io.lockstep.bridge.sidecar.RoutedSidecar;
import io.lockstep.bridge.sidecar.Sidecar;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Path;
import java.util.Set;
import java.util.TreeSet;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Gerrit's own periodic writes, and the role of the site. */
final class PeriodicJobsTest {
  private static final String STATUS = "GET /v1/status";

  /**
   * The classes that schedule something that may run at every site: Gerrit's queues, and jobs that
   * keep the index, the caches and the packs of one site.
   */
  private static final Set<String> OF_ONE_SITE =
      Set.of(
          "com.google.gerrit.lucene.AbstractLuceneIndex",
          "com.google.gerrit.server.git.DefaultQueueOp",
          "com.google.gerrit.server.git.GarbageCollectionRunner",
          "com.google.gerrit.server.git.WorkQueue",
          "com.google.gerrit.server.index.scheduler.PeriodicIndexScheduler",
          "com.google.gerrit.server.logging.LoggingContextAwareScheduledExecutorService",
          "com.google.gerrit.server.project.PeriodicProjectListCacheWarmer");

  @TempDir Path folder;

  /** A job as Gerrit has them: its constructor is not public. */
  static class Job implements Runnable {
    int runs;

    Job() {}

    @Override
    public void run() {
      runs++;
    }
  }

  private static Job guarded(Sidecar sidecar) {
    AbstractModule module =
        new AbstractModule() {
          @Override
          protected void configure() {
            bind(Sidecar.class).toInstance(sidecar);
            PeriodicJobs guard = new PeriodicJobs();
            requestInjection(guard);
            bindInterceptor(Matchers.only(Job.class), Matchers.any(), guard);
          }
        };
    return Guice.createInjector(module).getInstance(Job.class);
  }

  @Test
  void aJobRunsOnlyWhileTheSiteIsActive() throws Exception {
    try (RoutedSidecar sidecar = new RoutedSidecar(folder)) {
      sidecar.on(
          STATUS,
          "200 {\"role\":\"standby\"}",
          "200 {\"role\":\"active\",\"epoch\":2}",
          "200 {\"role\":\"draining\"}",
          "200 {}",
          "503 {\"code\":\"unavailable\",\"message\":\"it starts\",\"retry\":true}",
          RoutedSidecar.HANG_UP,
          "200 {\"role\":\"active\"}");
      Job job = guarded(sidecar.client());
      int[] runs = new int[7];
      for (int at = 0; at < runs.length; at++) {
        job.run();
        runs[at] = job.runs;
      }
      assertEquals("[0, 1, 1, 1, 1, 1, 2]", java.util.Arrays.toString(runs));
    }
  }

  @Test
  void aJobDoesNotRunWithoutItsSidecar() throws Exception {
    Job job = guarded(new RoutedSidecar(folder).closed());
    job.run();
    assertEquals(0, job.runs);
  }

  /** A release with a new periodic job needs a decision: does it run at a standby? */
  @Test
  void everyPeriodicJobOfThisReleaseIsKnown() throws Exception {
    Set<String> known = new TreeSet<>(OF_ONE_SITE);
    known.addAll(PeriodicJobs.CLASSES);
    // Both receivers of mails use the timer of their common class.
    known.add("com.google.gerrit.server.mail.receive.MailReceiver");
    Set<String> unknown = schedulers();
    assertTrue(unknown.contains(ChangeCleanupRunner.class.getName()), unknown.toString());
    unknown.removeAll(known);
    assertEquals(Set.of(), unknown);
  }

  /** Guice extends these classes, so they and their methods must not be final. */
  @Test
  void everyInterceptedMethodOfThisReleaseCanBeIntercepted() throws Exception {
    int found = 0;
    for (String name : PeriodicJobs.CLASSES) {
      Class<?> job;
      try {
        job = Class.forName(name, false, getClass().getClassLoader());
      } catch (ClassNotFoundException e) {
        continue;
      }
      found++;
      assertFalse(java.lang.reflect.Modifier.isFinal(job.getModifiers()), name);
      Set<String> methods =
          java.util.Arrays.stream(job.getDeclaredMethods())
              .filter(method -> !java.lang.reflect.Modifier.isFinal(method.getModifiers()))
              .filter(method -> method.getReturnType() == void.class)
              .map(java.lang.reflect.Method::getName)
              .filter(PeriodicJobs.METHODS::contains)
              .collect(Collectors.toSet());
      assertEquals(1, methods.size(), name + ": " + methods);
    }
    assertTrue(found >= 5, "only " + found + " of the jobs are in this release");
  }

  /** The outer classes of Gerrit's server that schedule something periodically. */
  private static Set<String> schedulers() throws Exception {
    Path jar =
        Path.of(
            ChangeCleanupRunner.class.getProtectionDomain().getCodeSource().getLocation().toURI());
    Set<String> found = new TreeSet<>();
    try (JarFile classes = new JarFile(jar.toFile())) {
      for (JarEntry entry : java.util.Collections.list(classes.entries())) {
        String name = entry.getName();
        if (name.startsWith("com/google/gerrit/")
            && name.endsWith(".class")
            && schedules(classes, entry)) {
          found.add(name.replaceAll("(\\$.*)?\\.class$", "").replace('/', '.'));
        }
      }
    }
    return found;
  }

  private static boolean schedules(JarFile classes, JarEntry entry) throws IOException {
    try (InputStream content = classes.getInputStream(entry)) {
      String constants = new String(content.readAllBytes(), ISO_8859_1);
      return constants.contains("scheduleAtFixedRate")
          || constants.contains("scheduleWithFixedDelay")
          || constants.contains("java/util/Timer;");
    }
  }
}
